"""No step of the method waits for the device, or leaves it."""
from contextlib import nullcontext
from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from bench.counting import SyncCounter
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from mmseg_esl import functional as esl
from mmseg_esl.models.intensity import OPERATIONS, RandomIntensity


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
    out.update(image=torch.randint(256, (3, *size), generator=g).float(),
               windows=torch.rand(3, 3, generator=g) + 0.5, flags=torch.rand(3, generator=g) < 0.5,
               weight=torch.randn(c, 5, generator=g), half=torch.tensor(0.5),
               backwards=torch.arange(3).flip(0), head=nn.Conv2d(5, c, 1))
    out['student'] = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    out['teacher'] = deepcopy(out['student'])
    return out


def soft(label):
    def run(d):
        target, _ = label(d['probs'])
        esl.soft_cross_entropy(d['logits'], target, d['valid']).backward()
    return run


def cutmix(d):
    mask = esl.cutmix_mask(3, (8, 9), device=d['probs'].device)
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
    esl.spread_labels(d['labels'].clamp(min=0), d['valid'], regions, d['half'], 4)


def intensities(d):
    RandomIntensity()(d['probs'][:, :3])
    for name, argument in OPERATIONS.items():
        getattr(esl.intensity, name)(d['image'], *argument(0.3))


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
    maps = esl.class_activation(feats, d['weight'], shown, valid)
    esl.masked_attention(feats, feats, maps, valid).sum().backward()
    esl.masked_mean(feats, valid).sum().backward()
    hole = esl.cutout_mask(3, (8, 9), 3, device=valid.device)
    esl.calibrated_fusion(d['logits'], d['probs'], d['valid'] & ~hole)


def classes(d):
    anchors, lots = d['embeddings'], torch.rand_like(d['embeddings'][:, :4]).double()
    own = d['anchor_parts'] // 3
    members = esl.PixelsByClass.of(own, 4)
    sums = esl.confusion(d['weight'], members.count > 0)
    drawn = members.pick(esl.draw_classes(sums[own], lots), lots)
    weights = esl.class_weights(members.count > 3, members.count > 0, 3)[own]
    esl.class_contrast(anchors, anchors.detach()[members.pick(own, lots[:, 0])],
                       lambda unit, some: esl.cosines(unit, anchors.detach()[drawn[some]]),
                       weights, 4).backward()
    esl.negative_classes(d['logits'], d['labels'], d['valid'], 1)


def seeds(d):
    labels, known = esl.nearest(d['labels'], (4, 5)), d['weight'][:, :3] > 0
    esl.part_seeds(d['features'].detach(), labels, d['prototypes'], known)
    esl.assign_parts(d['features'].detach(), d['labels'], d['prototypes'], mask=known)


def windows(d):
    at = d['probs'].device
    esl.look_through(d['probs'], esl.rescale_windows(3, (8, 9), (0.5, 1.5), device=at))
    esl.windows_inside(d['windows'], (8, 9))
    esl.flip_some(d['probs'], d['flags'])


def thresholds(d):
    sure = esl.prediction_entropy(d['logits'])
    few = sure < esl.percentile(sure, 0.2)
    esl.pseudo_cross_entropy(d['logits'], d['labels'].clamp(min=0), few, d['valid']).backward()
    esl.class_ranks(d['logits'])


def agreement(d):
    labels = d['labels'].clamp(min=0)
    esl.mean_iou(labels, labels.flip(0), 4)
    esl.align_classes(d['probs'], d['weight'][:, 0].abs(), d['weight'][:, 1].abs())
    esl.probability_mse(d['logits'], d['probs'], d['valid']).backward()


def pixels(debias):
    def run(d):
        valid = esl.nearest(d['valid'], (4, 5))
        esl.pixel_contrast(d['features'], d['features'].detach(), esl.class_activation(
            d['features'], d['weight'], valid.new_ones(3, 4), valid), valid,
            debias=debias, other_images=debias == 'sampling').backward()
    return run


STEPS = {
    'contrast of pixels': pixels('weighting'),
    'contrast of pixels, sampled': pixels('sampling'),
    'attention and fusion': attention,
    'flaws': flaws,
    'contrast of classes': classes,
    'seeds of parts': seeds,
    'windows': windows,
    'thresholds': thresholds,
    'agreement and alignment': agreement,
    'classes mixed': lambda d: esl.classmix_mask(d['labels'], 4),
    'cutmix, boxes by image': lambda d: esl.mix(
        d['labels'], esl.cutmix_masks_by_image(3, (8, 9), device=d['labels'].device)),
    'dynamic soft label': soft(esl.dynamic_soft_label),
    'top-k soft label': soft(esl.topk_soft_label),
    'hard label': soft(esl.hard_label),
    'cutmix': cutmix,
    'cutmix, another partner': lambda d: esl.mix(
        d['probs'], esl.cutmix_mask(3, (8, 9), device=d['probs'].device), partner=d['backwards']),
    'complementary dropout': lambda d: esl.complementary_dropout(
        [d['probs'][:2], d['features'][:2]]),
    'label injection': injection,
    'intensity': intensities,
    'correlation': correlation,
    'divergence': lambda d: esl.probability_kl(
        d['logits'], d['probs'], d['valid'], d['valid']).backward(),
    'cutmix, toggling boxes': lambda d: esl.mix(
        d['labels'], esl.cutmix_masks_xor(3, (8, 9), device=d['labels'].device), shift=2),
    'beta boxes': lambda d: esl.mix(
        d['labels'], esl.cutmix_masks_beta(3, (8, 9), device=d['labels'].device)),
    'two predictions': lambda d: esl.merge_logits(d['logits'], d['probs'], 2),
    'adversarial noise': lambda d: esl.vat_noise(d['head'], d['features'], valid=d['valid']),
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


class OneDevice(TorchDispatchMode):
    """Lists operators that get tensors of several devices, and copies that the host waits for."""

    def __init__(self):
        super().__init__()
        self.strangers = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        given, made = ({x.device for x in tree_flatten(tree)[0] if isinstance(x, torch.Tensor)}
                       for tree in ((args, kwargs), result))
        if len(given) > 1 or (given and made - given and not kwargs.get('non_blocking')):
            self.strangers.append(str(func))
        return result


@pytest.mark.parametrize('name', list(STEPS))
def test_what_is_made_lies_where_the_inputs_do(name, monkeypatch):
    """Inputs on a device that only knows shapes: what is made for no device lies on the host."""
    monkeypatch.setattr(torch, 'autocast', lambda *args, **keys: nullcontext())  # not for 'meta'
    with torch.device('meta'):
        inputs = data()
    with OneDevice() as seen:
        STEPS[name](inputs)
    assert not seen.strangers


def test_strangers_are_seen():
    away, here = torch.ones(3, device='meta'), torch.arange(3)
    with OneDevice() as seen:
        here.to('meta', non_blocking=True)
    assert not seen.strangers
    for culprit in (lambda: away[here], lambda: away.gather(0, here), lambda: here.to('meta'),
                    lambda: away.index_select(0, here)):
        with OneDevice() as seen:
            culprit()
        assert len(seen.strangers) == 1


class Sorts(TorchDispatchMode):
    """Lists of each sort whether equal values keep their order, whatever the device."""

    def __init__(self):
        super().__init__()
        self.stable = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if 'sort' in func.overloadpacket.__name__ and 'search' not in func.overloadpacket.__name__:
            self.stable.append(bool((kwargs or {}).get('stable')))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize('sort', [
    lambda d: esl.class_ranks(d['logits']),
    lambda d: esl.PixelsByClass.of(d['labels'].flatten(), 4), contrast('shared')])
def test_equal_values_keep_their_order(sort):
    """On a CPU they always do, elsewhere only if asked to."""
    with Sorts() as seen:
        sort(data())
    assert seen.stable == [True]


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
