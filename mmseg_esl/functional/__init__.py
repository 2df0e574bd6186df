"""The methods in plain torch: no mm* package, no global state, random numbers by Generator."""
from . import intensity
from .complementary import complementary_dropout, complementary_masks
from .consistency import probability_kl, probability_mse, pseudo_cross_entropy, pseudo_label
from .contrast import part_contrast, sample_anchors, sample_negatives, sample_positives
from .correlation import (
    correlated_logits,
    correlation_maps,
    correlation_regions,
    spread_labels,
)
from .cutmix import cutmix_mask, cutmix_masks_by_image, mix, nearest
from .ema import ema_momentum, ema_update
from .injection import Injection, centred_boxes, draw_injection, image_certainty
from .parts import assign_parts, part_sums, sample_features, update_prototypes
from .precision import at_least_float
from .soft_label import (
    dynamic_soft_label,
    hard_label,
    soft_cross_entropy,
    soft_target,
    topk_soft_label,
)

__all__ = [
    'Injection', 'assign_parts', 'at_least_float', 'centred_boxes', 'complementary_dropout',
    'complementary_masks', 'correlated_logits', 'correlation_maps', 'correlation_regions',
    'cutmix_mask', 'cutmix_masks_by_image', 'draw_injection', 'dynamic_soft_label',
    'ema_momentum', 'ema_update', 'hard_label', 'image_certainty', 'intensity', 'mix',
    'nearest', 'part_contrast', 'part_sums', 'probability_kl', 'probability_mse',
    'pseudo_cross_entropy', 'pseudo_label', 'sample_anchors', 'sample_features',
    'sample_negatives', 'sample_positives', 'soft_cross_entropy', 'soft_target',
    'spread_labels', 'topk_soft_label', 'update_prototypes',
]
