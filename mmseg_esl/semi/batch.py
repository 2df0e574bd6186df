"""One step's images, labelled ones first."""
from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..models.label_maps import PADDING, label_maps


@dataclass(frozen=True)
class Batch:
    """Labelled and unlabelled images of one step, as weak views (normalised).

    Args:
        images: ``(B_l + B_u, 3, H, W)`` float. samples: their mmseg data samples.
        num_labeled: B_l, at least 1. ignore_index: the label that the head does not learn.
    """
    images: Tensor
    samples: list
    num_labeled: int
    ignore_index: int = PADDING

    @classmethod
    def of(cls, images: Tensor, samples, ignore_index: int = PADDING) -> Batch:
        """What the data preprocessor gave.

        Raises:
            ValueError: the samples do not come from a SemiDataset, or are out of order.
        """
        flags = [s.metainfo.get('labeled') for s in samples]
        if None in flags:
            raise ValueError('a sample does not say whether it is labelled: train_dataloader.'
                             'dataset must be a SemiDataset')
        num = sum(flags)
        if not all(flags[:num]) or num == 0:
            raise ValueError('a batch must hold labelled images first, at least one: use '
                             "batch_sampler=dict(type='SemiBatchSampler', ...)")
        return cls(images, samples, num, ignore_index)

    @property
    def labeled(self) -> Tensor:
        """``(B_l, 3, H, W)``."""
        return self.images[:self.num_labeled]

    @property
    def weak(self) -> Tensor:
        """``(B_u, 3, H, W)``, B_u may be 0."""
        return self.images[self.num_labeled:]

    @property
    def labels(self) -> Tensor:
        """``(B_l + B_u, H, W)`` long; of an unlabelled image 0, and 255 where it is padding."""
        return label_maps(self.samples)

    @property
    def valid(self) -> Tensor:
        """``(B_u, H, W)`` bool: pixels of the unlabelled images that are no padding."""
        return self.labels[self.num_labeled:] != PADDING

    @property
    def truth(self) -> Tensor:
        """``(B_l, H, W)`` long: the labels, -1 where they are padding or ignored."""
        labels = self.labels[:self.num_labeled]
        return torch.where((labels == PADDING) | (labels == self.ignore_index), -1, labels)

    @property
    def known(self) -> Tensor:
        """``(B_l + B_u, H, W)`` bool: pixels that count, labelled ones by ``truth``."""
        return torch.cat([self.truth >= 0, self.valid])
