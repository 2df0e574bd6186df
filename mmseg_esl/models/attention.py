"""PseudoSeg's second decision: an image classifier's maps, spread by self-attention."""
from __future__ import annotations

from typing import Sequence

import torch
from mmcv.cnn import build_norm_layer
from mmengine.model import BaseModule
from mmseg.models.utils import resize
from mmseg.registry import MODELS
from torch import Tensor, nn

from ..functional import at_least_float, class_activation, masked_attention, masked_mean, nearest


@MODELS.register_module()
class ClassMapAttention(BaseModule):
    """Self-attention Grad-CAM of an encoder's features (the authors' SGC).

    A classifier of pooled features gives maps of the classes that the image shows; pixels that look
    alike by the attention's key and query share them; a 1 x 1 convolution and batch norm make
    logits of them. Maps and attention take features without gradient: of the encoder's weights only
    the classifier's loss trains any.

    Args:
        in_channels: of the encoder's stages that the attention reads; the last one is classified.
        num_classes: C.
        background: class 0 is what no other class is: it is not classified, its map is 2 - max of
            the others'. False: all C classes are classified.
        channels: of key and query; 128.
        dropout: before the classifier; 0.5 (our choice).
        norm_cfg: norm layer of the logits.
        init_cfg: mmengine initialisation; torch's by default (our choice).
    """

    def __init__(self, in_channels: Sequence[int], num_classes: int, background: bool = True,
                 channels: int = 128, dropout: float = 0.5, norm_cfg: dict | None = None,
                 init_cfg=None):
        super().__init__(init_cfg)
        self.background = background
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(in_channels[-1], num_classes - int(background))
        self.query = nn.Conv2d(sum(in_channels), channels, 1, bias=False)
        self.key = nn.Conv2d(sum(in_channels), channels, 1, bias=False)
        self.mixing = nn.Conv2d(num_classes, num_classes, 1, bias=False)
        self.norm = build_norm_layer(norm_cfg or dict(type='BN', requires_grad=True),
                                     num_classes)[1]

    def forward(self, stages: Sequence[Tensor], valid: Tensor,
                classes: Tensor | None = None,
                align_corners: bool = False) -> tuple[Tensor, Tensor]:
        """Image scores and pixel logits, in float32 at least.

        Args:
            stages: the encoder's, ``(B, D_i, h_i, w_i)``, as many as ``in_channels``.
            valid: ``(B, H, W)`` bool; what is padding is neither pooled nor attended to.
            classes: ``(B, K)`` bool, those that the images show (K = C, without the background
                C - 1); None: those that the classifier gives a probability of 1/2.
            align_corners: of the network's bilinear resizes.

        Returns:
            scores ``(B, K)``, logits of each class's presence; logits ``(B, C, h, w)`` at the last
            stage's size.
        """
        last = stages[-1]
        with torch.autocast(last.device.type, enabled=False):
            valid = nearest(valid, last.shape[-2:], align_corners)
            stages = [at_least_float(stage) for stage in stages]
            scores = self.classifier(self.dropout(masked_mean(stages[-1], valid)))
            classes = scores >= 0 if classes is None else classes
            maps = class_activation(stages[-1], self.classifier.weight, classes, valid)
            features = torch.cat([resize(stage.detach(), last.shape[-2:], mode='bilinear',
                                         align_corners=align_corners) for stage in stages], dim=1)
            maps = maps + masked_attention(self.query(features), self.key(features), maps, valid)
            if self.background:
                maps = torch.cat([2 - maps.amax(dim=1, keepdim=True), maps], dim=1)
            return scores, self.norm(self.mixing(maps))
