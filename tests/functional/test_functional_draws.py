"""Whatever draws, draws from the generator that it is given, and from no other."""
from __future__ import annotations

import inspect

import pytest
import torch
from torch import nn

from mmseg_esl import functional as esl

N, C, H, W = 3, 4, 8, 9


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


LABELS = torch.randint(0, C, (N, H, W), generator=gen(1))
VALID = torch.rand(N, H, W, generator=gen(2)) < 0.8
FEATS = torch.rand(N, 6, H, W, generator=gen(3))
PROBS = torch.randn(N, C, H, W, generator=gen(4)).softmax(dim=1)
FILLED = torch.tensor([5, 7, 3, 6])
PARTS = torch.randint(0, 4, (40,), generator=gen(5))
MAPS = torch.randn(N, H * W, H, W, generator=gen(6)).flatten(2).softmax(dim=2).view(N, -1, H, W)
DECODER = nn.Conv2d(6, C, 1, bias=False)


def contrast(negatives):
    queue = torch.randn(4, 7, 6, generator=gen(7))
    return lambda g: esl.part_contrast(
        FEATS.flatten(2)[0].T[:40], PARTS, PARTS, PARTS >= 0, queue, FILLED, 4, num_negatives=9,
        negatives=negatives, generator=g)[0]


def pixels(debias):
    return lambda g: esl.pixel_contrast(FEATS, FEATS.flip(0), PROBS, VALID, debias=debias,
                                        num_negatives=20, generator=g)


DRAWS = {
    'centred_boxes': lambda g: esl.centred_boxes(N, 0.3, (H, W), generator=g),
    'classmix_mask': lambda g: esl.classmix_mask(LABELS, C, generator=g),
    'complementary_dropout': lambda g: esl.complementary_dropout([FEATS.repeat(2, 1, 1, 1)],
                                                                 generator=g)[0],
    'complementary_masks': lambda g: esl.complementary_masks(N, 20, torch.zeros(N).bool(),
                                                             generator=g),
    'correlation_regions': lambda g: esl.correlation_regions(MAPS, VALID, num=9, generator=g),
    'cutmix_mask': lambda g: esl.cutmix_mask(N, (H, W), generator=g),
    'cutmix_mask, a coin': lambda g: torch.stack([
        esl.cutmix_mask(N, (H, W), prob=0.5, generator=g) for _ in range(9)]),
    'cutmix_masks_beta': lambda g: esl.cutmix_masks_beta(N, (32, 33), generator=g),
    'cutmix_masks_by_image': lambda g: esl.cutmix_masks_by_image(9, (H, W), generator=g),
    'cutmix_masks_xor': lambda g: esl.cutmix_masks_xor(N, (H, W), generator=g),
    'cutout_mask': lambda g: esl.cutout_mask(N, (H, W), 4, generator=g),
    'draw_injection': lambda g: torch.cat([x.flatten().float() for x in vars(esl.draw_injection(
        torch.full((N,), 0.5), (H, W), generator=g)).values()]),
    'feature_drop': lambda g: torch.stack([esl.feature_drop(FEATS, VALID, generator=g)
                                           for _ in range(5)]),
    'feature_noise': lambda g: esl.feature_noise(FEATS, generator=g),
    'guided_cutout': lambda g: esl.guided_cutout(esl.component_boxes(VALID | True), (H, W),
                                                 generator=g),
    'lend_pixels': lambda g: esl.lend_pixels(VALID.flatten(1), 9, generator=g)[0],
    'part_contrast': contrast('shared'), 'part_contrast, independent': contrast('independent'),
    'pixel_contrast': pixels('weighting'), 'pixel_contrast, sampled': pixels('sampling'),
    'rescale_windows': lambda g: esl.rescale_windows(N, (H, W), (0.5, 1.5), generator=g),
    'sample_anchors': lambda g: esl.sample_anchors(LABELS.flatten(), C, generator=g)[0],
    'sample_features': lambda g: esl.sample_features(FEATS[0], LABELS[0], C, 5, generator=g)[0][1],
    'sample_negatives': lambda g: esl.sample_negatives(FILLED, PARTS, 9, generator=g)[1],
    'sample_positives': lambda g: esl.sample_positives(FILLED, PARTS, generator=g)[0],
    'vat_noise': lambda g: esl.vat_noise(DECODER, FEATS, generator=g)}


def test_nothing_that_draws_is_left_out():
    functions = {name for name in esl.__all__ if callable(getattr(esl, name))
                 and 'generator' in inspect.signature(getattr(esl, name)).parameters}
    assert functions == {name.split(',')[0] for name in DRAWS}


@pytest.mark.parametrize('name', DRAWS)
def test_from_the_given_generator_alone(name):
    draw, found = DRAWS[name], []
    for seed in (3, 3, 4):
        torch.rand(1)  # the default one is elsewhere each time
        state = torch.get_rng_state()
        found.append(draw(gen(seed)))
        assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(found[0], found[1]) and not torch.equal(found[1], found[2])


def entries(filled, part):
    """(part, slot) of all entries but the part's own, in order."""
    return [(p, s) for p, n in enumerate(filled.tolist()) for s in range(n) if p != part]


def test_lots_are_of_double_precision():
    """Of which the entry is the share: single precision reaches only 2^24 of them."""
    keys = torch.rand(N * H * W, dtype=torch.float64, generator=gen(8))
    for a, b in zip(esl.sample_anchors(LABELS.flatten(), C, generator=gen(8)),
                    esl.sample_anchors(LABELS.flatten(), C, keys=keys)):
        assert torch.equal(a, b)
    lots = torch.rand(len(PARTS), dtype=torch.float64, generator=gen(8))
    slots = [int(lot * int(FILLED[part])) for lot, part in zip(lots, PARTS)]
    assert esl.sample_positives(FILLED, PARTS, generator=gen(8))[0].tolist() == slots
    lots = torch.rand(len(PARTS), 9, dtype=torch.float64, generator=gen(8))
    part, slot, _ = esl.sample_negatives(FILLED, PARTS, 9, generator=gen(8))
    for i, own in enumerate(PARTS.tolist()):
        others = entries(FILLED, own)
        want = [others[int(lot * len(others))] for lot in lots[i]]
        assert list(zip(part[i].tolist(), slot[i].tolist())) == want


def test_a_positive_s_lot_can_be_given():
    lots = torch.rand(40, dtype=torch.float64, generator=gen(9))
    args = (FEATS.flatten(2)[0].T[:40], PARTS, PARTS, PARTS >= 0,
            torch.randn(4, 7, 6, generator=gen(7)), FILLED, 4)
    found = [esl.part_contrast(*args, num_negatives=9, positive_draw=lots * share,
                               generator=gen(1))[0] for share in (1, 1, 0)]
    assert found[0] == found[1] != found[2]
