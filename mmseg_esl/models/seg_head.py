"""The paper's segmentation head S on mmseg's DeepLabV3+ decoder (Sec. 3.1)."""
from __future__ import annotations

from mmseg.models.decode_heads import DepthwiseSeparableASPPHead
from mmseg.registry import MODELS
from torch import Tensor

from .projector import ESLProjector


@MODELS.register_module()
class ESLSegHead(DepthwiseSeparableASPPHead):
    """DeepLabV3+ whose classifier stands behind three Conv-BN-ReLU blocks.

    So head and projector are alike and side by side, if the method's ``embedding`` is
    'decode_head.blocks': the projector then reads what the blocks read, before the dropout.

    Args:
        num_blocks: 3 in the paper.
        block_kernel: 1 (our choice: the paper does not say, and 3x3 costs nine times as much at
            stride 4).
        others: as of mmseg's head; ``channels`` is the width of the blocks, too (our choice).
    """

    def __init__(self, *args, num_blocks: int = 3, block_kernel: int = 1, **kwargs):
        super().__init__(*args, **kwargs)
        self.blocks = ESLProjector(self.channels, self.channels, num_blocks, block_kernel,
                                   self.norm_cfg)

    def cls_seg(self, feat: Tensor) -> Tensor:
        """``(B, channels, h, w)`` of the decoder -> logits ``(B, C, h, w)``."""
        return super().cls_seg(self.blocks(feat))
