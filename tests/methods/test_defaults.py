"""What every method trains with if nobody says anything: its paper's values, or its release's.

Where neither has the key the value is our choice; it is held as well, since a run that was made
with it is compared with later ones.
"""
from __future__ import annotations

from dataclasses import fields

import every
import pytest

from mmseg_esl.semi import SemiTrainCfg

SHARED = dict(
    warmup_iters=0, ramp_iters=0, ramp_shape='linear', ema_momentum=0.99, ema_schedule='rising',
    ema_buffers=True, teacher_mode='eval', joint_forward=True, supervised_weight=1.0,
    auxiliary_loss=False, cutmix='batch', cutmix_prob=0.5, cutmix_area=0.5, cutmix_partner='next',
    global_average=True, sampling='batch')
ESL = dict(
    variant='dsl+ctr', mass=0.95, topk=5, sce_weight=0.2, ctr_weight=0.1, confidence=0.95,
    anchor_fraction=0.1, max_anchors=None, num_negatives=255, temperature=0.5, negatives='shared',
    part_resolution='embedding')
FIXMATCH = dict(  # both terms halved
    labels_by='student', threshold=0.95, supervised_weight=0.5, unlabeled_weight=0.5,
    cutmix='image')
OWN = {
    'AugSeg': dict(threshold=0.95, unlabeled_weight=1.0, copy_steps=0, extra_weak=False,
                   ema_momentum=0.999),
    'CCT': dict(consistency_weight=30.0, ramp_shape='sigmoid'),
    # (0.5 L_x + 0.5 L_xc + 0.25 (L_s + L_kl + L_fp + L_corr)) / 2
    'CorrMatch': dict(threshold=0.85, threshold_momentum=0.999, num_regions=128,
                      supervised_weight=0.25, labeled_correlation_weight=0.25,
                      unlabeled_weight=0.5, strong_weight=0.25, kl_weight=0.25,
                      feature_weight=0.25, correlation_weight=0.25, feature_drop=0.5,
                      cutmix='image'),
    'CPS': dict(cps_weight=1.5, mixing=False),
    'CutMixSeg': dict(consistency='mse', consistency_weight=1.0, threshold=0.97, counting='rate',
                      ema_schedule='constant', cutmix='aspect'),
    'ESL': ESL,
    'ESLPlus': dict(ESL, variant='dsl', weighting='none', threshold=0.95, alignment=1.0, views=1,
                    alignment_margin=0.0, clean_share=1.0, cutmix='image'),
    'FixMatch': FIXMATCH,
    'GCT': dict(dc_weight=100.0, fc_weight=1.0, fd_weight=10.0, flaw_threshold=0.6,
                dc_ramp_iters=3500),
    'GTASeg': dict(unlabeled_weight=1.0, dropped=0.2, ema_momentum=0.999),
    'MeanTeacher': dict(consistency='mse', consistency_weight=100.0),
    'PC2Seg': dict(labels_by='student', consistency_weight=1.0, contrast_weight=0.1,
                   num_negatives=200, temperature=0.1, negatives_from='other_images',
                   debias='weighting', cutout=0, cutmix_prob=0.0),
    'PSMT': dict(unlabeled_weight=1.5, threshold=0.6, top_logits=7, epoch_iters=300,
                 vat_radius=2.0, xi=0.1, ramp_shape='cosine', ema_momentum=0.996,
                 ema_schedule='constant', cutmix='beta'),
    'PseudoSeg': dict(fusion=0.5, temperature=0.5, unlabeled_weight=1.0, sgc_weight=1.0,
                      cls_weight=1.0, cutout=100, background=True, cutmix_prob=0.0),
    'ReCo': dict(unlabeled_weight=1.0, contrast_weight=1.0, mixing='classmix', rescale=(0.5, 1.5),
                 flip_prob=0.5, strong_threshold=0.97, weak_threshold=0.7, num_anchors=256,
                 num_negatives=512, temperature=0.5, cutmix_prob=1.0),
    'Supervised': dict(average=False),
    'U2PL': dict(unlabeled_weight=1.0, contrast_weight=0.1, unreliable=0.2, anchor_confidence=0.3,
                 low_rank=None, high_rank=20, num_anchors=256, num_negatives=50, temperature=0.5,
                 indexing='class'),
    'UniMatch': dict(FIXMATCH, strong_weights=(0.25, 0.25), feature_weight=0.5, feature_drop=0.5),
    'UniMatchV2': dict(threshold=0.95, supervised_weight=0.5, unlabeled_weight=0.5,
                       clean_share=0.5, ema_momentum=0.996, cutmix='image',
                       cutmix_partner='flip')}


def values(cfg) -> dict:
    return {field.name: getattr(cfg, field.name) for field in fields(cfg)}


def test_what_all_methods_share():
    assert values(SemiTrainCfg()) == SHARED


@pytest.mark.parametrize('kind', every.METHODS)
def test_of_a_method(kind):
    assert values(every.METHODS[kind].parse_cfg({})) == {**SHARED, **OWN[kind]}


@pytest.mark.parametrize('kind, said, follows', [
    ('CPS', dict(mixing=True), dict(cps_weight=1.0)),
    ('CutMixSeg', dict(consistency='hard'), dict(threshold=0.0)),
    ('MeanTeacher', dict(consistency='hard'), dict(consistency_weight=1.0))])
def test_what_follows_from_another_key(kind, said, follows):
    parse = every.METHODS[kind].parse_cfg
    assert values(parse(said)) == {**SHARED, **OWN[kind], **said, **follows}
    key, = follows
    assert getattr(parse({**said, key: 0.3}), key) == 0.3  # unless somebody says it


# --------------------------------------------------------------------- what its runs are called

NAMES = [  # a method's keys; what reports call it, and published tables if they have such a run
    ('AugSeg', {}, 'AugSeg', 'AugSeg'),
    ('AugSeg', dict(threshold=0), 'AugSeg', 'AugSeg'),  # Cityscapes
    *(('AugSeg', keys, 'AugSeg', None) for keys in (
        dict(threshold=0.9), dict(unlabeled_weight=2.0), dict(extra_weak=True))),
    ('CCT', {}, 'CCT', 'CCT'), ('CCT', dict(consistency_weight=1.0), 'CCT', None),
    ('CorrMatch', {}, 'CorrMatch', 'CorrMatch'),
    *(('CorrMatch', {key: 0.4}, 'CorrMatch', None) for key in (
        'threshold', 'threshold_momentum', 'unlabeled_weight', 'strong_weight', 'kl_weight',
        'feature_weight', 'correlation_weight', 'feature_drop')),
    ('CorrMatch', dict(num_regions=9), 'CorrMatch', None),
    ('CPS', {}, 'CPS', 'CPS'), ('CPS', dict(cps_weight=6), 'CPS', 'CPS'),
    ('CPS', dict(cps_weight=5), 'CPS', None),
    ('CPS', dict(mixing=True), 'CPS + CutMix', 'CPS'),
    ('CPS', dict(mixing=True, cps_weight=5), 'CPS + CutMix', 'CPS'),
    ('CPS', dict(mixing=True, cps_weight=6), 'CPS + CutMix', None),
    ('CutMixSeg', {}, 'CutMix-Seg', 'CutMix-Seg'),
    ('CutMixSeg', dict(consistency='hard'), 'CutMix-Seg, hard labels', 'CutMix-Seg'),
    ('CutMixSeg', dict(consistency_weight=2), 'CutMix-Seg', None),
    ('CutMixSeg', dict(consistency='hard', consistency_weight=2), 'CutMix-Seg, hard labels', None),
    ('ESL', {}, 'ESL', 'ESL'), ('ESL', dict(variant='dsl'), 'CE + DSL', 'CE + DSL'),
    ('ESL', dict(variant='sup'), 'supervised', 'Sup baseline'),
    ('ESL', dict(variant='topk', topk=3), 'CE + top-3', 'CE + top-3'),
    ('ESL', dict(variant='hard+ctr'), 'CE + hard label + CTR', 'CE + hard label + CTR'),
    ('ESLPlus', {}, 'ESL+', None), ('ESLPlus', dict(variant='dsl+ctr'), 'ESL+ + CTR', None),
    ('ESLPlus', dict(variant='hard'), 'ESL+ with hard labels', None),
    ('FixMatch', {}, 'FixMatch', 'FixMatch'),
    ('FixMatch', dict(threshold=0), 'FixMatch', 'FixMatch'),  # Cityscapes
    ('FixMatch', dict(labels_by='teacher'), 'FixMatch + EMA', 'FixMatch + EMA'),
    *(('FixMatch', keys, 'FixMatch', None) for keys in (
        dict(threshold=0.9), dict(supervised_weight=1.0), dict(unlabeled_weight=1.0))),
    ('GCT', {}, 'GCT', 'GCT'),
    *(('GCT', {key: 2.0}, 'GCT', None) for key in ('dc_weight', 'fc_weight', 'fd_weight')),
    ('GTASeg', {}, 'GTA-Seg', 'GTA-Seg'),
    ('MeanTeacher', {}, 'Mean Teacher', 'MT'),
    ('MeanTeacher', dict(consistency='hard'), 'Mean Teacher', 'MT'),
    ('MeanTeacher', dict(consistency_weight=1.0), 'Mean Teacher', None),
    ('MeanTeacher', dict(consistency='hard', consistency_weight=100.0), 'Mean Teacher', None),
    ('PC2Seg', {}, 'PC2Seg-style', None),
    ('PC2Seg', dict(labels_by='teacher'), 'PC2Seg-style + EMA', None),
    *(('PSMT', dict(unlabeled_weight=weight), 'PS-MT', 'PSMT') for weight in (1.5, 0.6, 0.06, 3)),
    ('PSMT', dict(unlabeled_weight=1.0), 'PS-MT', None),
    ('PSMT', dict(threshold=0.5), 'PS-MT', None),
    ('PseudoSeg', {}, 'PseudoSeg', 'PseudoSeg'),
    *(('PseudoSeg', keys, 'PseudoSeg', None) for keys in (
        dict(fusion=0.6), dict(temperature=1.0), dict(cutout=0))),
    ('ReCo', {}, 'ReCo', 'ReCo'), ('U2PL', {}, 'U2PL', 'U2PL'),
    ('Supervised', {}, 'supervised', 'Sup baseline'),
    ('Supervised', dict(average=True), 'supervised', None),
    ('UniMatch', {}, 'UniMatch', 'UniMatch'),
    ('UniMatch', dict(threshold=0, strong_weights=[0.25, 0.25]), 'UniMatch', 'UniMatch'),
    ('UniMatch', dict(labels_by='teacher'), 'UniMatch + EMA', 'UniMatch + EMA'),
    *(('UniMatch', keys, 'UniMatch', None) for keys in (
        dict(threshold=0.9), dict(strong_weights=(0.5, 0.25)), dict(strong_weights=(0.25, 0.5)),
        dict(feature_weight=1.0), dict(feature_drop=0.3))),
    ('UniMatchV2', {}, 'UniMatch V2', 'UniMatch V2'),
    *(('UniMatchV2', {key: 0.3}, 'UniMatch V2', None) for key in (
        'threshold', 'clean_share', 'supervised_weight', 'unlabeled_weight'))]


@pytest.mark.parametrize('kind, keys, name, published', NAMES)
def test_names(kind, keys, name, published):
    cls = every.METHODS[kind]
    cfg = cls.parse_cfg(keys)
    assert cls.name_of(cfg) == name and cls.published_as(cfg) == published


def test_every_method_is_named():
    assert {kind for kind, *_ in NAMES} == set(OWN) == set(every.METHODS)
