"""Label maps of a batch, in which padding is told from what the data set calls ignored."""
from __future__ import annotations

import torch
from torch import Tensor

PADDING = 255  # what label maps are padded with in a pipeline, and LoadEmptyAnnotations' too


def label_maps(samples) -> Tensor:
    """``(B, H, W)`` labels; 255 wherever mmseg's preprocessor has padded an image.

    It fills label maps with ``seg_pad_val``, which may be the number of a class: where it has
    padded is in each sample's ``padding_size`` (left, right, top, bottom).

    Args:
        samples: B data samples with ``gt_sem_seg`` of ``(1, H, W)``.
    """
    labels = torch.stack([sample.gt_sem_seg.data[0] for sample in samples])
    height, width = labels.shape[1:]
    for label, sample in zip(labels, samples):
        left, right, top, bottom = sample.metainfo.get('padding_size', (0, 0, 0, 0))
        label[:top], label[height - bottom:] = PADDING, PADDING
        label[:, :left], label[:, width - right:] = PADDING, PADDING
    return labels
