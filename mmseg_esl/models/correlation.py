"""CorrMatch's correlation head: how much a position's prediction should tell of another one's."""
from __future__ import annotations

from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from mmseg.registry import MODELS
from torch import Tensor, nn

from ..functional import correlation_maps, nearest


@MODELS.register_module()
class CorrelationHead(BaseModule):
    """A projection of the encoder's last stage, and two embeddings whose products are compared.

    It costs (h * w) ** 2 values an image, forward and backward, at the encoder's stride.

    Args:
        in_channels: of the features. num_classes: C, width of the embeddings.
        channels: width of the projection, a 3x3 convolution; 256.
        dropout_ratio: share of the projection's channels that are dropped; 0.1.
        norm_cfg: the segmentor's norm layer by default (set by the method).
        init_cfg: mmengine initialisation.
    """

    def __init__(self, in_channels: int, num_classes: int, channels: int = 256,
                 dropout_ratio: float = 0.1, norm_cfg: dict | None = None, init_cfg=None):
        super().__init__(init_cfg)
        self.project = ConvModule(in_channels, channels, 3, padding=1, bias=True,
                                  norm_cfg=norm_cfg or dict(type='BN', requires_grad=True))
        self.dropout = nn.Dropout2d(dropout_ratio)
        self.one, self.two = (nn.Conv2d(channels, num_classes, 1) for _ in range(2))

    def forward(self, x: Tensor, valid: Tensor, align_corners: bool = False) -> Tensor:
        """``(B, in_channels, h, w)``, valid ``(B, H, W)`` bool -> maps ``(B, h * w, h, w)``.

        See correlation_maps. Features of padding are zeros to the convolution, as what lies beyond
        an image's edge is.
        """
        there = nearest(valid, x.shape[2:], align_corners)[:, None]
        x = self.dropout(self.project(x * there))
        return correlation_maps(self.one(x), self.two(x), valid, align_corners=align_corners)
