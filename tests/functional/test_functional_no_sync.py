"""No step of the method waits for the device."""
from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from bench.counting import SyncCounter
from torch import nn

from mmseg_esl import functional as esl
from mmseg_esl.models.intensity import RandomIntensity


def data():
    g = torch.Generator().manual_seed(0)
    c, k, size = 4, 3, (8, 9)
    out = dict(
        probs=(3 * torch.randn(3, c, *size, generator=g)).softmax(1),
        logits=torch.randn(3, c, *size, generator=g).requires_grad_(),
        valid=torch.rand(3, *size, generator=g) > 0.2,
        labels=torch.randint(-1, c, (3, *size), generator=g),
        features=torch.randn(3, 5, 4, 5, generator=g).requires_grad_(),
        prototypes=torch.randn(c, k, 5, generator=g),
        parts=torch.randint(-1, c * k, (3, *size), generator=g),
        queue=torch.randn(c * k, 7, 6, generator=g),
        filled=torch.randint(0, 7, (c * k,), generator=g),
        embeddings=torch.randn(200, 6, generator=g).requires_grad_(),
        anchor_parts=torch.randint(0, c * k, (200,), generator=g),
        chosen=torch.rand(200, generator=g) < 0.8)
    out['student'] = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    out['teacher'] = deepcopy(out['student'])
    return out


def soft(label):
    def run(d):
        target, _ = label(d['probs'])
        esl.soft_cross_entropy(d['logits'], target, d['valid']).backward()
    return run


def cutmix(d):
    mask = esl.cutmix_mask(3, (8, 9))
    for name in ('probs', 'logits', 'valid', 'labels', 'features'):
        esl.mix(d[name], mask)
    esl.nearest(d['labels'], (3, 4))


def injection(d):
    certainty = esl.image_certainty(d['logits'], d['valid'])
    drawn = esl.draw_injection(certainty, (8, 9))
    drawn.mix(d['probs'], d['probs'][:2])
    drawn.mix(d['labels'], d['labels'][:2])


def correlation(d):
    maps = esl.correlation_maps(d['features'], d['features'], d['valid'])
    esl.correlated_logits(d['logits'], maps, d['valid']).sum().backward()
    regions = esl.correlation_regions(maps, d['valid'], num=5)
    esl.spread_labels(d['labels'].clamp(min=0), d['valid'], regions, torch.tensor(0.5), 4)


def intensities(d):
    view = RandomIntensity()
    for _ in range(20):  # all operations
        view(d['probs'][:, :3])


def grouping(corners):
    def run(d):
        parts = esl.assign_parts(d['features'].detach(), d['labels'], d['prototypes'],
                                 align_corners=corners)
        sums, counts = esl.part_sums(d['features'], parts, 12, align_corners=corners)
        sums.sum().backward()
        esl.update_prototypes(d['prototypes'], sums.detach().sum(0), counts.sum(0))
    return run


def contrast(mode):
    def run(d):
        loss, _ = esl.part_contrast(d['embeddings'], d['anchor_parts'] // 3, d['anchor_parts'],
                                    d['chosen'], d['queue'], d['filled'], 4, num_negatives=9,
                                    negatives=mode, generator=torch.Generator().manual_seed(1))
        loss.backward()
    return run


def flaws(d):
    probs, valid = d['probs'], d['valid'] & (d['labels'] >= 0)
    target = esl.flaw_target(probs, d['labels'], valid)
    esl.exchange(esl.handle_flaws(d['logits'][:, 0], esl.not_padding(d['labels'], -1)), target)
    esl.mean_square(d['logits'][:, 0] - target, valid, valid).backward()


def attention(d):
    valid, feats = d['valid'][:, ::2, ::2][:, :4, :5], d['features']
    shown = esl.present_classes(d['labels'], 4, d['labels'] >= 0)
    maps = esl.class_activation(feats, torch.randn(4, 5), shown, valid)
    esl.masked_attention(feats, feats, maps, valid).sum().backward()
    esl.masked_mean(feats, valid).sum().backward()
    hole = esl.cutout_mask(3, (8, 9), 3)
    esl.calibrated_fusion(d['logits'], d['probs'], d['valid'] & ~hole)


def pixels(debias):
    def run(d):
        valid = esl.nearest(d['valid'], (4, 5))
        esl.pixel_contrast(d['features'], d['features'].detach(), esl.class_activation(
            d['features'], torch.randn(4, 5), valid.new_ones(3, 4), valid), valid,
            debias=debias).backward()
    return run


STEPS = {
    'contrast of pixels': pixels('weighting'),
    'contrast of pixels, sampled': pixels('sampling'),
    'attention and fusion': attention,
    'flaws': flaws,
    'dynamic soft label': soft(esl.dynamic_soft_label),
    'top-k soft label': soft(esl.topk_soft_label),
    'hard label': soft(esl.hard_label),
    'cutmix': cutmix,
    'cutmix, another partner': lambda d: esl.mix(
        d['probs'], esl.cutmix_mask(3, (8, 9)), partner=torch.arange(3).flip(0)),
    'complementary dropout': lambda d: esl.complementary_dropout(
        [d['probs'][:2], d['features'][:2]]),
    'label injection': injection,
    'intensity': intensities,
    'correlation': correlation,
    'divergence': lambda d: esl.probability_kl(
        d['logits'], d['probs'], d['valid'], d['valid']).backward(),
    'cutmix, toggling boxes': lambda d: esl.mix(d['labels'], esl.cutmix_masks_xor(3, (8, 9)),
                                               shift=2),
    'beta boxes': lambda d: esl.cutmix_masks_beta(3, (8, 9)),
    'two predictions': lambda d: esl.merge_logits(d['logits'], d['probs'], 2),
    'adversarial noise': lambda d: esl.vat_noise(nn.Conv2d(5, 4, 1), d['features']),
    'noise on features': lambda d: esl.feature_noise(d['features']),
    'active places': lambda d: esl.feature_drop(d['features'], d['valid'][:, :4, :5]),
    'objects cut': lambda d: esl.guided_cutout(esl.component_boxes(d['valid']), (8, 9)),
    'part grouping': grouping(False),
    'part grouping, corners aligned': grouping(True),
    'anchors': lambda d: esl.sample_anchors(d['labels'].flatten(), 4),
    'anchors, limited': lambda d: esl.sample_anchors(d['labels'].flatten(), 4, limit=3),
    'positives': lambda d: esl.sample_positives(d['filled'], d['anchor_parts']),
    'negatives': lambda d: esl.sample_negatives(d['filled'], d['anchor_parts'], 9),
    'contrast, shared': contrast('shared'),
    'contrast, independent': contrast('independent'),
    'ema': lambda d: esl.ema_update(d['teacher'], d['student'], esl.ema_momentum(7)),
}


@pytest.mark.parametrize('name', list(STEPS))
def test_nothing_waits_for_the_device(name):
    inputs = data()
    with SyncCounter() as counter:
        STEPS[name](inputs)
    assert counter.all > 0 and not counter.waits


MASK = torch.tensor([True, False, True])
CULPRITS = {
    '_local_scalar_dense': [lambda x: x.sum().item(), lambda x: bool(x.any()),
                            lambda x: x[:int(x[0] > 0)], lambda x: 1 if x.sum() > 0 else 0],
    'nonzero': [lambda x: x.nonzero(), lambda x: torch.where(x > 0)],
    'masked_select': [lambda x: x.masked_select(MASK)],
    '_unique2': [lambda x: x.unique()],
    'bincount': [lambda x: x.long().bincount()],
    'index with a mask': [lambda x: x[MASK], lambda x: x.view(1, 3)[:, MASK]],
    'index_put_ with a mask': [lambda x: x.clone().index_put_((MASK,), torch.zeros(()))],
}


@pytest.mark.parametrize('name, culprit', [(n, f) for n, fs in CULPRITS.items() for f in fs])
def test_the_counter_sees_what_waits(name, culprit):
    with SyncCounter() as counter:
        culprit(torch.ones(3))
    assert counter.waits[name] > 0


def test_the_counter_sees_backward_and_lets_plain_work_pass():
    class Waits(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, grad):
            return grad * grad.sum().item()

    with SyncCounter() as counter:
        Waits.apply(torch.ones(3, requires_grad=True)).sum().backward()
    assert counter.waits == {'_local_scalar_dense': 1}
    with SyncCounter() as counter:
        x = torch.randn(3, 4)
        F.softmax(x, dim=1)[torch.tensor([0, 2])].where(x[:2] > 0, 0.0).sort()
    assert counter.all >= 5 and not counter.waits


def test_only_the_start_of_k_means_waits():
    """Said in its docstring: it runs once, before training."""
    with SyncCounter() as counter:
        esl.sample_features(torch.randn(5, 4, 5), torch.zeros(8, 9).long(), 2, 3)
    assert counter.waits['nonzero'] == 2
