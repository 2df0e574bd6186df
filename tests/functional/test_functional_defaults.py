"""What the functions do if nobody says more: the papers' figures, torch's ``align_corners``."""
from __future__ import annotations

import inspect

import pytest

from mmseg_esl import functional as esl

GRID = dict(align_corners=False)
DEFAULTS = {
    'align_classes': dict(strength=1.0, limit=10.0),
    'assign_parts': GRID,
    'calibrated_fusion': dict(share=0.5, temperature=0.5),  # PseudoSeg
    'class_contrast': dict(temperature=0.5), 'confusion': dict(temperature=0.5),  # U2PL, ReCo
    'complementary_dropout': dict(clean_share=0.5),
    'correlated_logits': GRID, 'correlation_maps': GRID,
    'correlation_regions': dict(GRID, num=128),  # CorrMatch
    'cutmix_mask': dict(area=0.5, prob=1.0),
    'cutmix_masks_by_image': dict(prob=0.5, area=(0.02, 0.4), ratio=0.3),  # UniMatch
    'cutmix_masks_xor': dict(boxes=3, share=(0.25, 0.5)),  # CPS
    'dynamic_soft_label': dict(mass=0.95),
    'ema_momentum': dict(momentum=0.99), 'ema_update': dict(buffers=True),
    'exchange': dict(threshold=0.6),  # GCT
    'feature_drop': dict(share=(0.7, 0.9)), 'feature_noise': dict(width=0.3),  # CCT
    'guided_cutout': dict(erase=0.4, min_perimeter=0),
    'label_weight': dict(kind='confidence', threshold=0.95),
    'look_through': dict(nearest=False),
    'mix': dict(GRID, shift=1), 'nearest': GRID,
    'negative_classes': dict(low_rank=3, high_rank=20),  # U2PL
    'not_padding': dict(padding=255),
    'part_contrast': dict(num_negatives=255, temperature=0.5, negatives='shared'),
    'part_sums': GRID,
    'pixel_contrast': dict(num_negatives=200, temperature=0.1, other_images=True,
                           debias='weighting'),
    'ramp': dict(shape='linear'),
    'sample_anchors': dict(fraction=0.1), 'sample_features': GRID,
    'sample_negatives': dict(num=255),
    'soft_target': dict(kind='dsl', mass=0.95, k=5), 'topk_soft_label': dict(k=5),
    'update_prototypes': dict(momentum=0.99),
    'vat_noise': dict(GRID, xi=0.1, radius=2.0)}
ELSEWHERE = ('merge_logits', 'probability_mse')  # see test_functional_consistency


@pytest.mark.parametrize('name', esl.__all__)
def test_default(name):
    function = getattr(esl, name)
    if not inspect.isfunction(function) or name in ELSEWHERE:
        return
    found = {key: p.default for key, p in inspect.signature(function).parameters.items()
             if p.default not in (p.empty, None)}
    assert found == DEFAULTS.get(name, {})
