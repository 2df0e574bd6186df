"""Random numbers that belong to an image, not to the order in which a process draws."""
from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..functional import cutmix_mask

MIX, ANCHORS, NEGATIVES = range(3)


class ImageDraws:
    """Draws of one step that depend on seed, iteration and an image's place in the whole batch.

    However the batch is spread over processes, an image gets the same numbers. Generators are
    seeded on the host: nothing waits for the device.

    Args:
        seed, iteration: non-negative. rank: of this process.
        num_labeled, num_unlabeled: images of a rank, the same on each.
        device: of the draws for the contrast.
    """

    def __init__(self, seed: int, iteration: int, rank: int, num_labeled: int, num_unlabeled: int,
                 device):
        self.key, self.device = (seed, iteration), device
        self.images = [(kind, rank * num + i) for kind, num in enumerate(
            (num_labeled, num_unlabeled)) for i in range(num)]
        self.num_labeled = num_labeled

    def _generator(self, *words: int, device='cpu') -> torch.Generator:
        state = np.random.SeedSequence((*self.key, *words)).generate_state(1, np.uint64)[0]
        return torch.Generator(device).manual_seed(int(state) >> 1)  # 63 bits: never negative

    def cutmix(self, size: tuple[int, int], prob: float, area: float) -> Tensor:
        """``(B_u, H, W)`` bool boxes; whether there are any is one draw for all images."""
        mixes = np.random.default_rng((*self.key, MIX)).random() < prob
        boxes = [cutmix_mask(1, size, area=area, prob=float(mixes), device=self.device,
                             generator=self._generator(MIX, *image))
                 for image in self.images[self.num_labeled:]]
        return torch.cat(boxes)

    def pixels(self, num: int) -> Tensor:
        """``(2, B * num)`` float64 in [0, 1), two numbers for each of an image's pixels."""
        rows = [torch.rand(2, num, dtype=torch.float64, device=self.device,
                           generator=self._generator(ANCHORS, *image, device=self.device))
                for image in self.images]
        return torch.cat(rows, dim=1)

    def negatives(self) -> torch.Generator:
        """Generator of the draws that all images share, one for each part."""
        return self._generator(NEGATIVES, device=self.device)
