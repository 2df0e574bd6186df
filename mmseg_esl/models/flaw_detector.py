"""GCT's flaw detector: an image and a prediction -> where the prediction is wrong."""
from __future__ import annotations

import torch
import torch.nn.functional as F
from mmcv.cnn import build_norm_layer
from mmengine.model import BaseModule
from mmseg.registry import MODELS
from torch import Tensor, nn

SMALLEST = 128  # pixels of a side, of which the convolutions leave three


class InstanceBatchNorm(nn.Module):
    """Batch norm of the first half of the channels, instance norm without weights of the others."""

    def __init__(self, channels: int, norm_cfg: dict):
        super().__init__()
        self.half = channels // 2
        self.batch = build_norm_layer(norm_cfg, self.half)[1]
        self.instance = nn.InstanceNorm2d(channels - self.half)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.batch(x[:, :self.half]), self.instance(x[:, self.half:])], dim=1)


@MODELS.register_module()
class FlawDetector(BaseModule):
    """Seven 4 x 4 convolutions with norm and LeakyReLU, one more to a map (the authors' code).

    Args:
        num_classes: C.
        channels: of the first convolution; 64. Later ones have two, four and eight times as many.
        image_channels: D, of the images (set by the method).
        norm_cfg: norm layer of half of the channels, SyncBN by default.
        init_cfg: mmengine initialisation; torch's by default (our choice).
    """

    def __init__(self, num_classes: int, channels: int = 64, norm_cfg: dict | None = None,
                 init_cfg=None, image_channels: int = 3):
        super().__init__(init_cfg)
        norm_cfg = norm_cfg or dict(type='SyncBN', requires_grad=True)
        before = image_channels + num_classes
        layers = []
        for factor, stride in ((1, 2), (2, 2), (2, 1), (4, 2), (4, 1), (8, 2), (8, 1)):
            layers += [nn.Conv2d(before, factor * channels, 4, stride, padding=1),
                       InstanceBatchNorm(factor * channels, norm_cfg), nn.LeakyReLU(0.2)]
            before = factor * channels
        self.layers = nn.Sequential(*layers, nn.Conv2d(before, 1, 4, 2, padding=1))

    def forward(self, images: Tensor, probs: Tensor, inside: Tensor) -> Tensor:
        """Flaws ``(B, H, W)``, any real values, of predictions for normalised images.

        Images of less than 128 pixels a side are enlarged first (our choice).

        Args:
            images: ``(B, D, H, W)``. probs: ``(B, C, H, W)``, probabilities.
            inside: ``(B, H, W)`` bool; what is padding is seen as zeros (our choice).
        """
        size = images.shape[-2:]
        x = torch.cat([images, probs.to(images.dtype)], dim=1)
        x = torch.where(inside[:, None], x, 0.0)
        if min(size) < SMALLEST:
            x = F.interpolate(x, [max(side, SMALLEST) for side in size], mode='bilinear',
                              align_corners=True)
        return F.interpolate(self.layers(x), size, mode='bilinear', align_corners=True)[:, 0]
