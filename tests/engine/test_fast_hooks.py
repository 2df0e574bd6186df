"""CompileHook and ChannelsLastHook: the same step, the same names."""
import re

import forked
import pytest
import tiny
import torch
import two_ranks_channels_last
from mmseg.registry import MODELS
from torch._dynamo.backends.debugging import aot_eager

from mmseg_esl.engine.hooks.channels_last_hook import use_channels_last
from mmseg_esl.engine.hooks.compile_hook import CompileHook, compile_networks, require_compiler
from mmseg_esl.semi import network
from mmseg_esl.storage.keys import to_plain

FAST = dict(backend='aot_eager')  # traces and partitions as inductor does, and writes no C++


def step(model):
    """Loss terms and gradients of one step."""
    torch.manual_seed(1)
    inputs, samples = tiny.batch()
    losses = model.loss(inputs, samples)
    assert losses['loss_ctr'] > 0  # anchors found: the contrast compares something
    tiny.total(losses).backward()
    grads = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return {key: value.detach() for key, value in losses.items()}, grads


def assert_same(ours, wanted):
    for part, other in zip(ours, wanted):
        assert part.keys() == other.keys()
        for key in other:
            torch.testing.assert_close(part[key], other[key], rtol=1e-4, atol=1e-4)


@pytest.fixture(scope='module')
def plain():
    model = tiny.esl(sharp=3.0)
    return list(model.state_dict()), step(model)


def exports(model):
    """Load the teacher's weights into the supervised model, strictly."""
    supervised = MODELS.build(tiny.segmentor())
    supervised.load_state_dict(to_plain(model.state_dict(), 'teacher'), strict=True)


def test_compiled_step(plain):
    keys, wanted = plain
    graphs = []

    def counting(graph, inputs):
        graphs.append(graph)
        return aot_eager(graph, inputs)

    torch._dynamo.reset()  # shapes of earlier tests would make a region compile twice
    model = tiny.esl(sharp=3.0)
    names = compile_networks(model, backend=counting)
    assert 'student.backbone' in names and 'teacher_projector' in names
    assert 'teacher.decode_head.sep_bottleneck' in names
    torch._dynamo.utils.counters.clear()
    assert_same(step(model), wanted)
    assert len(graphs) == len(names)  # every region really was compiled,
    assert not torch._dynamo.utils.counters['graph_break']  # each as one graph
    model.zero_grad()
    model.part_memory.rollback()
    assert_same(step(model), wanted)  # taps of another forward
    assert len(graphs) == len(names)  # and once
    assert list(model.state_dict()) == keys
    exports(model)


@pytest.mark.parametrize('variant, segmentor, whole', [
    ('dsl', None, ['decode_head']),  # no projector: no tap
    ('dsl+ctr', tiny.cascade(), ['decode_head.0', 'decode_head.1.object_context_block',
                                 'decode_head.1.bottleneck']),
])
def test_regions(variant, segmentor, whole):
    model = tiny.esl(variant, segmentor=segmentor)
    names = compile_networks(model, **FAST)
    modules = dict(model.named_modules())
    for kind in ('student', 'teacher'):
        assert {f'{kind}.backbone', *(f'{kind}.{name}' for name in whole)} <= set(names)
        for path in model.tapped:
            tap, _ = network.tapped(modules[kind], path)
            assert all(tap is not m for name in names for m in modules[name].modules())
        assert bool(model.tapped) is (variant == 'dsl+ctr')
    # every convolution is in exactly one region, but for the tapped classifier
    inside = [id(m) for name in names for m in modules[name].modules()
              if isinstance(m, torch.nn.Conv2d)]
    assert len(inside) == len(set(inside))
    outside = {name for name, m in modules.items()
               if isinstance(m, torch.nn.Conv2d) and id(m) not in inside}
    assert all(name.endswith('conv_seg') for name in outside)
    assert bool(outside) is (variant == 'dsl+ctr')


def test_a_plain_segmentor_compiles_too():
    torch.manual_seed(0)
    model = MODELS.build(tiny.segmentor()).eval()
    x = torch.randn(1, 3, 32, 32)
    wanted = model(x)
    assert compile_networks(model, **FAST) == ['backbone', 'decode_head']
    torch.testing.assert_close(model(x), wanted)


def test_what_cannot_compile_is_explained(tmp_path, monkeypatch):

    def broken(graph, inputs):
        raise OSError('no compiler in reach')

    with pytest.raises(RuntimeError, match=r'does not work on cpu: OSError: no compiler in reach\. '
                       '.*--compile'):
        require_compiler('cpu', backend=broken)
    tiny.write_data(tmp_path / 'data')
    with pytest.raises(RuntimeError, match='no compiler in reach'):  # the backend that was named
        CompileHook(backend=broken).before_train(tiny.runner(
            tmp_path / 'work', tmp_path / 'data', [], model=tiny.method_cfg('Supervised')))
    with pytest.raises(RuntimeError, match='leave one of the two out'):
        tiny.run(tmp_path, tmp_path / 'data', [tiny.EMA, tiny.PARTS, dict(type='CompileHook')],
                 cfg=dict(compile=True))
    monkeypatch.delattr(torch, 'compile')
    with pytest.raises(RuntimeError, match=r'has no torch.compile: install torch 2\.0'):
        require_compiler('cpu')


def test_the_compiler_is_tried_on_the_device_of_the_model():
    devices = []

    def listen(graph, inputs):
        devices.extend(x.device.type for x in inputs)
        return graph.forward

    torch._dynamo.reset()
    require_compiler('meta', backend=listen)
    assert devices == ['meta']


# ------------------------------------------------------------------------------- channels-last


def test_channels_last_step(plain):
    keys, wanted = plain
    model = tiny.esl(sharp=3.0)
    before = {name: id(p) for name, p in model.named_parameters()}
    queue = model.part_memory.queue.stride()
    use_channels_last(model)
    assert {name: id(p) for name, p in model.named_parameters()} == before
    assert model.part_memory.queue.stride() == queue
    formats = []
    for net in (model.student, model.teacher):
        net.backbone.register_forward_hook(lambda m, args, out: formats.append(
            out[-1].is_contiguous(memory_format=torch.channels_last)
            and not out[-1].is_contiguous()))
    assert_same(step(model), wanted)
    assert formats == [True, True]  # without converting the images
    assert list(model.state_dict()) == keys
    exports(model)


@pytest.mark.parametrize('changes', [dict(part_resolution='image'), dict(negatives='independent'),
                                     dict(sampling='image'), dict(joint_forward=False)])
def test_channels_last_with_other_options(changes):
    model, wanted = (tiny.esl(sharp=3.0, **changes) for _ in range(2))
    use_channels_last(model)
    assert_same(step(model), step(wanted))


def difference(ours, theirs) -> float:
    """Of the whole tensor: 1 and more if it was misread, rounding makes far less."""
    return float((ours - theirs).norm() / theirs.norm().clamp(min=1e-6))


def momenta(runner):
    return [s['momentum_buffer'] for s in runner.optim_wrapper.optimizer.state.values()]


@pytest.mark.parametrize('fused', [None, True])
def test_a_run_resumed_with_channels_last(tmp_path, fused):
    """Momenta come out of the checkpoint in the other layout: they are not to be misread."""
    data = tmp_path / 'data'
    tiny.write_data(data)
    hooks = [tiny.EMA, tiny.PARTS]
    wrapper = dict(optimizer=dict(type='SGD', lr=0.05, momentum=0.9, fused=fused))
    tiny.run(tmp_path / 'a', data, hooks, max_iters=2, save_every=2, wrapper=wrapper)
    start = dict(load_from=str(tmp_path / 'a/work/iter_2.pth'), resume=True, max_iters=4,
                 wrapper=wrapper)
    wanted = tiny.run(tmp_path / 'b', data, hooks, **start)
    torch.manual_seed(0)
    runner = tiny.run(tmp_path / 'c', data, [*hooks, dict(type='ChannelsLastHook')], **start)
    for ours, theirs in zip(momenta(runner), momenta(wanted)):
        assert difference(ours, theirs) < 0.05
        assert ours.dim() != 4 or ours.is_contiguous(memory_format=torch.channels_last)
    conv = runner.model.student.backbone.layer1[0].conv1.weight
    assert conv.is_contiguous(memory_format=torch.channels_last) and not conv.is_contiguous()
    for (name, ours), theirs in zip(runner.model.named_parameters(), wanted.model.parameters()):
        assert difference(ours, theirs) < 0.05, name


def test_two_ranks_with_channels_last(tmp_path):
    """DistributedDataParallel averages the first gradients in the layout that they have."""
    said = forked.on_ranks(two_ranks_channels_last.main, tmp_path)
    worst = re.findall(r'rank \d: (\d\.\de[+-]\d\d)', said)
    assert len(worst) == 2 and all(float(value) < 1e-5 for value in worst), said[-2000:]
