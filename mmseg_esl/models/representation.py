"""The representation head of U2PL and ReCo: decoder features -> what pixels are compared by."""
from __future__ import annotations

from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from mmseg.registry import MODELS
from torch import Tensor, nn


@MODELS.register_module()
class RepresentationHead(BaseModule):
    """3x3 Conv-BN-ReLU blocks, then a plain 1x1 convolution (as their releases have it).

    Args:
        in_channels: channels of the tapped features.
        channels: L, width of the blocks and of the output; 256.
        num_convs: number of 3x3 blocks; 2 in U2PL, 1 in ReCo. kernel_size: 1 is far cheaper.
        dropout: share of channels dropped after each block; 0.1 in U2PL, 0 in ReCo.
        norm_cfg: the segmentor's norm layer by default (set by the method).
        init_cfg: mmengine initialisation; Kaiming by ConvModule's default.
    """

    def __init__(self, in_channels: int, channels: int = 256, num_convs: int = 2,
                 dropout: float = 0.1, kernel_size: int = 3, norm_cfg: dict | None = None,
                 init_cfg=None):
        super().__init__(init_cfg)
        norm_cfg = norm_cfg or dict(type='BN', requires_grad=True)
        self.out_channels = channels
        self.convs = nn.Sequential()
        for i in range(num_convs):
            self.convs.append(ConvModule(in_channels if i == 0 else channels, channels,
                                         kernel_size, padding=kernel_size // 2, norm_cfg=norm_cfg))
            if dropout:
                self.convs.append(nn.Dropout2d(dropout))
        self.convs.append(nn.Conv2d(channels if num_convs else in_channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        """``(B, in_channels, h, w)`` -> ``(B, channels, h, w)``, of either sign."""
        return self.convs(x)
