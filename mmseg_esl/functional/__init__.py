"""The methods in plain torch: no mm* package, no global state, random numbers by Generator."""
from . import intensity
from .agreement import mean_iou, stability
from .alignment import align_classes
from .attention import (
    calibrated_fusion,
    class_activation,
    masked_attention,
    masked_mean,
    present_classes,
)
from .class_contrast import (
    PixelsByClass,
    class_contrast,
    class_weights,
    confusion,
    cosines,
    draw_classes,
    negative_classes,
)
from .classmix import classmix_mask
from .complementary import complementary_dropout, complementary_masks
from .components import component_boxes, components
from .consistency import (
    merge_logits,
    probability_kl,
    probability_mse,
    pseudo_cross_entropy,
    pseudo_label,
    weighted_cross_entropy,
)
from .contrast import part_contrast, sample_anchors, sample_negatives, sample_positives
from .correlation import correlated_logits, correlation_maps, correlation_regions, spread_labels
from .cutmix import (
    cutmix_mask,
    cutmix_masks_beta,
    cutmix_masks_by_image,
    cutmix_masks_xor,
    cutout_mask,
    mix,
    nearest,
)
from .ema import ema_momentum, ema_update
from .flaws import exchange, flaw_target, gaussian_blur, handle_flaws, mean_square, not_padding
from .geometry import flip_some, look_through, rescale_windows, windows_inside
from .injection import Injection, centred_boxes, draw_injection, image_certainty
from .own_gradient import loss_at_once
from .parts import (
    assign_parts,
    best_seeds,
    part_seeds,
    part_sums,
    sample_features,
    update_prototypes,
)
from .perturb import feature_drop, feature_noise, guided_cutout
from .pixel_contrast import lend_pixels, other_class, pixel_contrast, weighted_info_nce
from .precision import at_least_float
from .ramps import ramp
from .soft_label import (
    dynamic_soft_label,
    hard_label,
    label_weight,
    soft_cross_entropy,
    soft_target,
    topk_soft_label,
)
from .thresholds import class_ranks, percentile, prediction_entropy
from .vat import vat_noise

__all__ = [
    'Injection', 'PixelsByClass', 'align_classes', 'assign_parts', 'at_least_float', 'best_seeds',
    'calibrated_fusion', 'centred_boxes', 'class_activation', 'class_contrast', 'class_ranks',
    'class_weights', 'classmix_mask', 'complementary_dropout', 'complementary_masks',
    'component_boxes', 'components', 'confusion', 'correlated_logits', 'correlation_maps',
    'correlation_regions', 'cosines', 'cutmix_mask', 'cutmix_masks_beta', 'cutmix_masks_by_image',
    'cutmix_masks_xor', 'cutout_mask', 'draw_classes', 'draw_injection', 'dynamic_soft_label',
    'ema_momentum', 'ema_update', 'exchange', 'feature_drop', 'feature_noise', 'flaw_target',
    'flip_some', 'gaussian_blur', 'guided_cutout', 'handle_flaws', 'hard_label', 'image_certainty',
    'intensity', 'label_weight', 'lend_pixels', 'look_through', 'loss_at_once', 'masked_attention',
    'masked_mean', 'mean_iou', 'mean_square', 'merge_logits', 'mix', 'nearest', 'negative_classes',
    'not_padding', 'other_class', 'part_contrast', 'part_seeds', 'part_sums', 'percentile',
    'pixel_contrast', 'prediction_entropy', 'present_classes', 'probability_kl', 'probability_mse',
    'pseudo_cross_entropy', 'pseudo_label', 'ramp', 'rescale_windows', 'sample_anchors',
    'sample_features', 'sample_negatives', 'sample_positives', 'soft_cross_entropy', 'soft_target',
    'spread_labels', 'stability', 'topk_soft_label', 'update_prototypes', 'vat_noise',
    'weighted_cross_entropy', 'weighted_info_nce', 'windows_inside',
]
