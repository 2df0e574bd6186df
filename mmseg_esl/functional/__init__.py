"""The methods in plain torch: no mm* package, no global state, random numbers by Generator."""
from .consistency import merge_logits, probability_mse, pseudo_cross_entropy, pseudo_label
from .contrast import part_contrast, sample_anchors, sample_negatives, sample_positives
from .cutmix import (
    cutmix_mask,
    cutmix_masks_beta,
    cutmix_masks_by_image,
    cutmix_masks_xor,
    mix,
    nearest,
)
from .ema import ema_momentum, ema_update
from .parts import assign_parts, part_sums, sample_features, update_prototypes
from .precision import at_least_float
from .ramps import ramp
from .soft_label import (
    dynamic_soft_label,
    hard_label,
    soft_cross_entropy,
    soft_target,
    topk_soft_label,
)
from .vat import vat_noise

__all__ = [
    'assign_parts', 'at_least_float', 'cutmix_mask', 'cutmix_masks_beta', 'cutmix_masks_by_image',
    'cutmix_masks_xor', 'dynamic_soft_label', 'ema_momentum', 'ema_update', 'hard_label',
    'merge_logits', 'mix', 'nearest', 'part_contrast', 'part_sums', 'probability_mse',
    'pseudo_cross_entropy', 'pseudo_label', 'ramp', 'sample_anchors', 'sample_features',
    'sample_negatives', 'sample_positives', 'soft_cross_entropy', 'soft_target', 'topk_soft_label',
    'update_prototypes', 'vat_noise',
]
