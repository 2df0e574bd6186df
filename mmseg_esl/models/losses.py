"""Supervised losses that the paper names and mmseg computes otherwise."""
from __future__ import annotations

import torch
import torch.nn.functional as F
from mmseg.registry import MODELS
from torch import Tensor, nn

from ..functional import at_least_float


@MODELS.register_module()
class OHEMCrossEntropyLoss(nn.Module):
    """Cross entropy over the hard pixels of a batch (the paper's loss on Cityscapes).

    Hard: the true class has a probability of at most ``thresh``, or the pixel is among the
    ``min_kept`` hardest. The mean is over the kept pixels, as in U2PL; mmseg's OHEMPixelSampler
    divides by all pixels instead, which would shrink this term against L_SCE and L_CTR as training
    goes on, and multiplies min_kept by the batch. The numbers are our choice (U2PL's).

    Args:
        thresh: in [0, 1]. min_kept: pixels of a rank's batch, at least 1.
        loss_weight: factor. loss_name: key in the log.
    """

    def __init__(self, thresh: float = 0.7, min_kept: int = 100000, loss_weight: float = 1.0,
                 loss_name: str = 'loss_ce'):
        super().__init__()
        if not 0 <= thresh <= 1 or min_kept < 1:
            raise ValueError('OHEMCrossEntropyLoss: thresh must be in [0, 1] and min_kept at least '
                             f'1, got {thresh} and {min_kept}')
        self.thresh, self.min_kept = thresh, min_kept
        self.loss_weight, self.loss_name = loss_weight, loss_name
        self.divisor = None  # pixels of all ranks in place of the own, while shared_divisors runs

    def forward(self, logits: Tensor, label: Tensor, weight=None, ignore_index: int = 255,
                **kwargs) -> Tensor:
        """logits ``(N, C, H, W)``, label ``(N, H, W)`` long -> scalar; 0 if nothing is valid."""
        loss = F.cross_entropy(at_least_float(logits), label, ignore_index=ignore_index,
                               reduction='none')
        valid = label != ignore_index
        with torch.no_grad():
            prob = torch.where(valid, (-loss).exp(), 2.0).flatten()  # of the true class
            # the min_kept-th smallest; kthvalue is one block of threads on CUDA, and is refused
            # where deterministic kernels are asked for
            hardest = prob.topk(min(self.min_kept, prob.numel()), largest=False,
                                sorted=False).values.amax()
            kept = valid & (prob.view_as(label) <= hardest.clamp(min=self.thresh))
        count = kept.sum()
        count = count.clamp(min=1) if self.divisor is None else self.divisor(count)
        return self.loss_weight * (torch.where(kept, loss, 0.0).sum() / count)
