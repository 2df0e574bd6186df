"""What every method has to keep, whatever it does: one step at a time.

A file in mmseg_esl/methods/ is tested by being there; see every.py.
"""
from __future__ import annotations

import copy
import pkgutil
from functools import lru_cache

import every
import pytest
import tiny
import torch
from bench.counting import SyncCounter
from mmseg.registry import HOOKS, MODELS
from torch.utils._python_dispatch import TorchDispatchMode

import mmseg_esl.methods
from mmseg_esl.models.decoder_tail import DecoderTail
from mmseg_esl.models.segmentors import main_head

each = pytest.mark.parametrize('case', every.CASES, ids=repr)
MOMENTUM = dict(ema_schedule='constant', ema_momentum=0.7)


def test_each_file_holds_a_registered_method():
    files = {module.name for module in pkgutil.iter_modules(mmseg_esl.methods.__path__)}
    assert files == {cls.__module__.rsplit('.')[-1] for cls in every.METHODS.values()}
    for name, cls in every.METHODS.items():
        assert MODELS.get(name) is cls
    assert set(every.SETTINGS) <= set(every.METHODS)
    names = [cls.name_of(cls.parse_cfg({})) for cls in every.METHODS.values()]
    assert len(set(names)) == len(names)


@each
def test_what_it_says_of_itself(case):
    cfg, roles = case.cfg, case.roles
    assert 'StepHook' in case.cls.hooks_of(cfg)
    for hook in case.cls.hooks_of(cfg):
        assert HOOKS.get(hook) is not None
    assert case.cls.name_of(cfg).strip()
    first = next(iter(roles.values()))
    assert first.plain and not first.follows  # what the frame leans on
    for role in roles.values():
        if role.follows:
            assert not roles[role.follows].follows and role.plain == roles[role.follows].plain
    with pytest.raises(ValueError, match='no_such_key.*known keys: .*ema_momentum'):
        case.cls.parse_cfg(dict(case.semi, no_such_key=1))
    with pytest.raises(ValueError, match='ema_momentum'):
        case.cls.parse_cfg(dict(case.semi, ema_momentum=2))


# -------------------------------------------------------------------------------- odd inputs

def fcn():
    """Without global pooling: batch norm can live with one image."""
    return tiny.segmentor(decode_head=tiny.fcn())


def corners():
    seg = tiny.segmentor()
    seg['decode_head']['align_corners'] = True
    return seg


def ignore(samples, which):
    for sample in samples[which]:
        sample.gt_sem_seg.data.fill_(255)


ODD = {
    'odd size': dict(size=(33, 47)), 'odd size, corners': dict(size=(33, 47), seg=corners),
    'two classes': dict(num_classes=2), '150 classes': dict(num_classes=150),
    'nothing labelled': dict(ignored=slice(0, 2)), 'all padding': dict(ignored=slice(2, 4)),
    'nothing at all': dict(ignored=slice(0, 4)), 'one labelled': dict(images=(1, 2), seg=fcn),
    'one unlabelled': dict(images=(2, 1), seg=fcn), 'one each': dict(images=(1, 1), seg=fcn),
    'none unlabelled': dict(images=(2, 0)), 'five': dict(images=(2, 3))}


@lru_cache(maxsize=5)
def made(case, seg, classes):
    """A model for several inputs, and its state: building it takes as long as seven steps."""
    model = case.build(seg and seg(), num_classes=classes, sharp=1.0)
    return model, copy.deepcopy(model.state_dict())


@pytest.mark.parametrize('odd', ODD)  # the inner loop
@each
def test_odd_inputs(case, odd):
    odd = ODD[odd]
    classes = odd.get('num_classes', 3)
    model, state = made(case, odd.get('seg'), classes)
    model.load_state_dict(state)
    model.zero_grad()
    inputs, samples = tiny.batch(*odd.get('images', (2, 2)), classes, size=odd.get('size', 32))
    if 'ignored' in odd:
        ignore(samples, odd['ignored'])
    total = step(model, inputs, samples)
    assert total.isfinite()
    for name, p in model.named_parameters():
        assert p.grad is None or p.grad.isfinite().all(), name


@each
def test_an_image_alone_under_pooled_batch_norm(case):
    """It trains, or says what to do."""
    model = case.build(sharp=1.0)
    try:
        assert step(model, *tiny.batch(1, 1)).isfinite()
    except ValueError as error:
        assert 'num_labeled' in str(error) and 'batch norm' in str(error)


def step(model, inputs, samples):
    total, _ = model.parse_losses(model.loss(inputs, samples))
    total.backward()
    return total.detach()


# --------------------------------------------------------------------------------- gradients

@each
def test_gradients_reach_what_is_trained_and_nothing_else(case):
    model = case.build(tiny.segmentor(auxiliary=True), sharp=1.0)
    step(model, *tiny.batch())
    for name, net in model.named(trained=True).items():
        trained = {n: p for n, p in net.named_parameters() if not n.startswith('auxiliary_head')}
        assert all(p.requires_grad and p.grad is not None for p in trained.values()), name
        if case.cfg.__dict__.get('label') != 'sup' or model.roles[name].plain:
            assert sum(p.grad.abs().sum() for p in trained.values()) > 0, name
        for n, p in net.named_parameters():
            assert n in trained or not p.requires_grad and p.grad is None, n
    for name, net in model.named(trained=False).items():
        for n, p in net.named_parameters():
            assert not p.requires_grad and p.grad is None, f'{name}.{n}'


@each
def test_padding_counts_nowhere(case):
    """Whatever an image shows where its label is 255."""
    inputs, samples = tiny.batch(2, 3, ignored=5)
    padded = torch.stack([s.gt_sem_seg.data for s in samples]) == 255
    other = torch.where(padded, torch.randn_like(inputs), inputs)
    assert (other != inputs).any(dim=1).sum() == padded.sum()
    found = []
    for images in (inputs, other, inputs + torch.where(padded, 0.0, 0.1)):
        model = case.build(every.pointwise(), sharp=1.0).eval()
        torch.manual_seed(3)
        losses = model.loss(images, samples)
        tiny.total(losses).backward()
        grads = {f'grad {n}': p.grad for n, p in model.named_parameters() if p.grad is not None}
        found.append({**{k: v.detach() for k, v in losses.items()}, **model.state_dict(), **grads})
    losses = [k for k, v in losses.items() if 'loss' in k and v.detach() != 0]
    assert losses and not [key for key in losses if torch.equal(found[0][key], found[2][key])]
    assert every.differing(found[0], found[1]) == []


# ---------------------------------------------------------------------------------- averages

@each
def test_averages_follow_exactly(case):
    model = case.build(sharp=1.0, **MOMENTUM)
    gen = torch.Generator().manual_seed(1)
    for net in model.named(trained=False).values():  # averages that lag behind
        for p in (*net.parameters(), *(b for b in net.buffers() if b.is_floating_point())):
            p.data += 0.1 * torch.rand(p.shape, generator=gen)
    params = [p for p in model.parameters() if p.requires_grad]
    step(model, *tiny.batch())
    torch.optim.SGD(params, lr=0.1).step()
    model.double()  # in which the average is exact to far more than a float's last bit
    old = {name: every.part(model, name) for name in model.roles}
    assert model.after_optimizer_step(5) == (0.7 if model.named(trained=False) else None)
    assert model.ema_steps == 1
    averages = model.named(trained=False)
    assert not averages or set(averages) - every.resting(model)
    for name, role in model.roles.items():
        new = every.part(model, name)
        if not role.follows or name in every.resting(model):
            moved = every.differing(old[name], new)
            assert bool(moved) == (name in every.MOVED.get(case.kind, ())), moved
            continue
        followed = dict(getattr(model, name).named_parameters()) if not model.cfg.ema_buffers \
            else new
        for key, value in new.items():
            if key not in followed:
                assert torch.equal(value, old[name][key]), key
            elif value.is_floating_point():
                want = 0.7 * old[name][key] + 0.3 * old[role.follows][key]
                torch.testing.assert_close(value, want, rtol=0, atol=1e-12, msg=key)
            else:
                assert torch.equal(value, old[role.follows][key]), key


@each
def test_the_first_average_is_a_copy(case):
    """By min(1 - 1/(t + 1), m); and what was initialised is copied before it."""
    model = case.build(sharp=1.0)
    for role in model.roles.values():
        if role.follows and model.cfg.ema_schedule == 'rising':
            with torch.no_grad():
                next(getattr(model, role.follows).parameters()).add_(1)
    old = {name: every.part(model, name) for name in model.roles}
    model.after_optimizer_step(0)
    for name, role in model.roles.items():
        if role.follows:
            assert every.differing(every.part(model, name), old[role.follows]) == []


# --------------------------------------------------------------------- precision, waits, cost

@each
def test_autocast(case):
    found = []
    for enabled in (False, True):
        model = case.build(sharp=0.3)
        torch.manual_seed(1)
        with torch.autocast('cpu', dtype=torch.bfloat16, enabled=enabled):
            losses = model.loss(*tiny.batch())
        tiny.total(losses).backward()
        assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
        found.append({k: float(v.detach()) for k, v in losses.items() if 'loss' in k})
        if enabled:
            own = [v for k, v in losses.items() if 'loss' in k and 'decode' not in k]
            assert all(v.dtype == torch.float32 for v in own if isinstance(v, torch.Tensor))
    assert sum(found[1].values()) == pytest.approx(sum(found[0].values()), rel=0.1)
    assert found[0] != found[1]


class Products(TorchDispatchMode):
    """Types of all products of matrices; a network of convolutions has none of its own."""
    KINDS = (torch.ops.aten.mm.default, torch.ops.aten.bmm.default, torch.ops.aten.addmm.default,
             torch.ops.aten.baddbmm.default)

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if func in self.KINDS:
            self.found.append(out.dtype)
        return out


@each
def test_own_products_are_not_rounded_under_autocast(case):
    """It would take them in bfloat16, whose 8 bits a cosine over a temperature does not bear."""
    model = case.build(sharp=0.3)
    for _ in range(2):  # memories are filled by the first
        with torch.autocast('cpu', dtype=torch.bfloat16), Products() as products:
            model.loss(*tiny.batch())
    assert set(products.found) <= {torch.float32, torch.float64}
    if type(model).__name__ in ('ESL', 'U2PL', 'ReCo', 'PC2Seg') and 'ctr' in getattr(
            case.cfg, 'variant', 'ctr'):
        assert products.found


@each
def test_a_step_waits_for_no_device(case):
    model = case.build(sharp=1.0)
    model.watch.on = True
    with SyncCounter() as counter:
        step(model, *tiny.batch())
        model.after_optimizer_step(3)
        step(model, *tiny.batch())
        model.after_skipped_step()
    # mmseg's own loss, where it is asked, picks the valid pixels by a mask for its accuracy
    mmsegs = set() if case.cfg.joint_forward else {'index with a mask'}
    assert counter.all > 500 and set(counter.waits) <= mmsegs


def cost(case, labeled: int, unlabeled: int) -> tuple[float, float]:
    """Forwards of the encoders and the decoders in a step; one with a backward counts 3."""
    model, found = case.build(sharp=1.0), [0.0, 0.0]

    def count(which):
        def hook(module, args, out):
            out = out if isinstance(out, torch.Tensor) else out[-1]
            found[which] += len(out) * (3 if out.requires_grad else 1)
        return hook

    for net in model.named(plain=True).values():
        net.backbone.register_forward_hook(count(0))
        main_head(net).conv_seg.register_forward_hook(count(1))  # whoever calls the head
    with pytest.MonkeyPatch.context() as patch:  # a tail by itself is no decoder
        patch.setattr(DecoderTail, '__call__', aside(DecoderTail.__call__, found))
        model.loss(*tiny.batch(labeled, unlabeled))
    return tuple(found)


def aside(function, found):
    """A function whose run leaves ``found`` as it was."""
    def run(*args):
        before = list(found)
        out = function(*args)
        found[:] = before
        return out
    return run


@each
def test_the_cost_is_what_it_says(case):
    said = case.cls.passes(case.cfg)
    both, labeled, unlabeled = cost(case, 2, 2), cost(case, 4, 2), cost(case, 2, 4)
    for i in range(2):
        assert (labeled[i] - both[i]) / 2 == said['labeled'][i]
        assert (unlabeled[i] - both[i]) / 2 == said['unlabeled'][i]
        assert both[i] == 2 * said['labeled'][i] + 2 * said['unlabeled'][i]
