"""Decoders beside the main one that see perturbed features and must agree with it."""
from __future__ import annotations

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from mmseg.models.utils import resize
from mmseg.registry import MODELS
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..functional import (
    at_least_float,
    component_boxes,
    feature_drop,
    feature_noise,
    guided_cutout,
    loss_at_once,
    nearest,
    probability_mse,
    vat_noise,
)

OF_OBJECTS = ('cutout', 'context', 'objects')


@MODELS.register_module()
class AuxDecoders(BaseModule):
    """K classifiers with weights of their own, each with one of seven perturbations.

    They run one after the other, and again in the backward pass, so that the features of one of
    them are held at a time, not of K; of its logits at full size only the gradient is.

    Args:
        in_channels: D of the features. num_classes: C.
        vat, dropout, cutout, context, objects, feature_drop, feature_noise: how many there are with
            adversarial noise; dropped channels; a part of each object cut out; the context zeroed;
            the objects zeroed; the most active places zeroed; multiplied noise. The release's.
        background_class: what is no object; None: without cutout, context and objects.
        xi, radius: see functional.vat_noise; the release has xi = 1e-6.
        channel_ratio: share of dropped channels. erase: see functional.guided_cutout.
        min_perimeter: in pixels, of an object that is cut (our choice; the release wants 50 points
            of a simplified contour).
        drop_share, noise_width: see functional.feature_drop and feature_noise.
        init_cfg: mmengine initialisation; by default as mmseg's classifiers.

    Raises:
        ValueError: no decoder is left.
    """

    def __init__(self, in_channels: int, num_classes: int, vat: int = 2, dropout: int = 6,
                 cutout: int = 6, context: int = 2, objects: int = 2, feature_drop: int = 6,
                 feature_noise: int = 6, background_class: int | None = 0, xi: float = 0.1,
                 radius: float = 2.0, channel_ratio: float = 0.5, erase: float = 0.4,
                 min_perimeter: int = 50, drop_share=(0.7, 0.9), noise_width: float = 0.3,
                 init_cfg=None):
        super().__init__(init_cfg or dict(type='Normal', layer='Conv2d', std=0.01))
        counts = dict(vat=vat, dropout=dropout, cutout=cutout, context=context, objects=objects,
                      feature_drop=feature_drop, feature_noise=feature_noise)
        self.kinds = [kind for kind, count in counts.items() for _ in range(count)
                      if background_class is not None or kind not in OF_OBJECTS]
        if not self.kinds:
            raise ValueError('aux_decoders: there is none: set the number of one kind to 1 or more'
                             + ' (without a background_class only of the kinds that look for no '
                               'objects)' * (background_class is None))
        self.background_class, self.xi, self.radius = background_class, xi, radius
        self.channel_ratio, self.erase, self.min_perimeter = channel_ratio, erase, min_perimeter
        self.drop_share, self.noise_width = tuple(drop_share), noise_width
        self.decoders = nn.ModuleList(nn.Conv2d(in_channels, num_classes, 1) for _ in self.kinds)

    def consistency(self, z: Tensor, logits: Tensor, valid: Tensor, *, align_corners: bool = False,
                    divisor=None) -> Tensor:
        """Mean over the decoders of the squared difference from the main one's probabilities.

        Args:
            z: ``(B, D, h, w)`` features; the encoder learns through them.
            logits: ``(B, C, H, W)`` of the main decoder; no gradient goes there.
            valid: ``(B, H, W)`` bool. divisor: see functional.probability_mse.

        Returns:
            scalar >= 0.
        """
        with torch.autocast(z.device.type, enabled=False):
            z, logits, count = at_least_float(z), logits.detach(), valid.sum()
            count = count.clamp(min=1) if divisor is None else divisor(count)
            size = z.shape[-2:]
            places, fore, boxes = nearest(valid, size, align_corners), None, None
            if self.background_class is not None:
                fore = logits.argmax(dim=1) != self.background_class
                fore = nearest(fore, size, align_corners) & places
                boxes = component_boxes(fore) if 'cutout' in self.kinds else None

            def one(decoder, kind, z, noise):
                return decoder(self._perturbed(kind, z, noise, places, fore, boxes, logits))

            def difference(answer):
                answer = resize(answer, size=logits.shape[-2:], mode='bilinear',
                                align_corners=align_corners)
                return probability_mse(answer, wanted, valid, softened=True,
                                       divisor=lambda _: count)

            total, wanted = 0.0, logits.softmax(dim=1)
            for decoder, kind in zip(self.decoders, self.kinds):
                # it differentiates, which what is run again must not
                noise = None if kind != 'vat' else vat_noise(
                    decoder, z, xi=self.xi, radius=self.radius, valid=valid,
                    align_corners=align_corners)
                answer = checkpoint(one, decoder, kind, z, noise, use_reentrant=False)
                total = total + loss_at_once(difference, answer)
            return total / len(self.kinds)

    def _perturbed(self, kind, z, noise, places, fore, boxes, logits):
        if kind == 'vat':
            return z + noise
        if kind == 'dropout':
            return F.dropout2d(z, self.channel_ratio)
        if kind == 'feature_drop':
            return feature_drop(z, places, share=self.drop_share)
        if kind == 'feature_noise':
            return feature_noise(z, width=self.noise_width)
        if kind == 'cutout':
            fore = guided_cutout(boxes, z.shape[-2:], erase=self.erase,
                                 min_perimeter=self.min_perimeter * z.shape[-1] / logits.shape[-1])
        return z * (~fore if kind == 'objects' else fore)[:, None]
