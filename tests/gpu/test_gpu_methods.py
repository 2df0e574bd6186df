"""Every method on a GPU: it never waits, every precision and format, as the CPU computes."""
from __future__ import annotations

import copy
import json
import os
import socket
import subprocess
import sys
import time
import warnings
from contextlib import contextmanager, suppress
from pathlib import Path

import every
import pytest
import tiny
import torch
from mmengine.hooks import Hook
from mmseg.registry import MODELS
from rehearsal import REHEARSAL
from same_draws import SameDraws

from mmseg_esl.engine.hooks.channels_last_hook import use_channels_last
from mmseg_esl.engine.hooks.compile_hook import compile_networks
from mmseg_esl.models import aux_decoders

DEFAULTS = [every.Case(kind) for kind in (('ESL', 'UniMatch') if REHEARSAL else every.METHODS)]
each = pytest.mark.parametrize('case', DEFAULTS, ids=repr)
each_setting = pytest.mark.parametrize('case', DEFAULTS if REHEARSAL else every.CASES, ids=repr)
on_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason='no GPU')


def losses_and_gradients(case, device, change=lambda model: None, precision=None):
    """Of one step from the same weights, images and seed: terms, and gradients by name."""
    model = case.build(sharp=1.0).to(device)
    change(model)
    inputs, samples = tiny.batch()
    torch.manual_seed(3)
    with torch.autocast(device, dtype=precision, enabled=precision is not None):
        terms = model.loss(inputs.to(device), [sample.to(device) for sample in samples])
    scale = 2.0 ** 8 if precision == torch.float16 else 1.0
    (scale * tiny.total(terms)).backward()
    gradients = {name: p.grad.cpu() / scale for name, p in model.named_parameters()
                 if p.grad is not None}
    terms = {key: float(tiny.total({key: value})) for key, value in terms.items() if 'loss' in key}
    return terms, gradients


def assert_close(found, wanted, tolerance):
    assert found[0].keys() == wanted[0].keys()
    for key, value in wanted[0].items():
        assert found[0][key] == pytest.approx(value, rel=tolerance, abs=tolerance), key
    assert found[1].keys() == wanted[1].keys()
    norm = torch.stack([g.norm() for g in wanted[1].values()]).norm()
    for name, gradient in wanted[1].items():
        assert (found[1][name] - gradient).norm() <= tolerance * norm, name


@each_setting
def test_the_host_never_waits(case, device):
    if not case.cfg.joint_forward:
        pytest.skip("mmseg's own loss picks the valid pixels by a mask")
    never_waits(case.build(sharp=1.0), device)


@pytest.mark.parametrize('kind', ['KorniaStrongView', 'RandomIntensity'])
def test_nor_for_colours(kind, device):
    if kind == 'KorniaStrongView':
        pytest.importorskip('kornia')
    model = every.Case('ESLPlus').build(sharp=1.0)
    model.strong_view = MODELS.build(dict(type=kind))
    never_waits(model, device)


def never_waits(model, device):
    model = model.to(device)
    inputs, samples = tiny.batch()
    inputs, samples = inputs.to(device), [sample.to(device) for sample in samples]
    for guarded in (False, True):  # first calls may wait for libraries
        with errors_of_waiting(guarded and device == 'cuda'):
            total, _ = model.parse_losses(model.loss(inputs, samples))
            total.backward()
            model.after_optimizer_step(3)
    assert total.isfinite()


@contextmanager
def errors_of_waiting(wanted: bool):
    if not wanted:
        yield
        return
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode('error')
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode('default')


@each
def test_float32_is_the_cpus(case, device, exact, monkeypatch):
    # what is computed again in backward would draw from the device: the mode is off there
    monkeypatch.setattr(aux_decoders, 'checkpoint', lambda run, *args, **kwargs: run(*args))
    with SameDraws():
        assert_close(losses_and_gradients(case, device), losses_and_gradients(case, 'cpu'), 1e-2)


@each
@pytest.mark.parametrize('precision', [torch.bfloat16, torch.float16], ids=str)
def test_mixed_precision(case, device, precision):
    if device == 'cpu' and precision == torch.float16:
        pytest.skip('a GPU computes in float16')
    wanted = losses_and_gradients(case, device)
    terms, gradients = losses_and_gradients(case, device, precision=precision)
    assert sum(terms.values()) == pytest.approx(sum(wanted[0].values()), rel=0.1)
    assert terms != wanted[0] and all(g.isfinite().all() for g in gradients.values())
    assert gradients.keys() == wanted[1].keys()  # autocast has lost none on the way


@each
def test_deterministic_kernels_are_all_there(case, device):
    """As randomness.deterministic=True asks for them: torch raises where it has none."""
    torch.use_deterministic_algorithms(True)
    try:
        losses_and_gradients(case, device)
    finally:
        torch.use_deterministic_algorithms(False)


@each
def test_channels_last(case, device, exact):
    assert_close(losses_and_gradients(case, device, use_channels_last),
                 losses_and_gradients(case, device), 1e-2)


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp('data')
    tiny.write_data(folder, labeled=8, unlabeled=8)
    return folder


@pytest.fixture
def unsteady():
    """Asks for kernels that give the same bits each time; called, it lists those that have none."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter('always')
        torch.use_deterministic_algorithms(True, warn_only=True)
        yield lambda: {str(w.message).split('. ')[0] for w in said
                       if 'deterministic' in str(w.message)}
        torch.use_deterministic_algorithms(False)


@each
def test_resumed_bit_for_bit(case, device, data, tmp_path, unsteady):
    def run(name, **kwargs):
        tiny.run(tmp_path / name, data, case.hooks(dict(type='RunStateHook')), max_iters=4,
                 model=case.model_cfg(), train_cfg=dict(type='SemiTrainLoop', max_iters=4),
                 default_hooks=dict(
                     logger=dict(type='LoggerHook', interval=1, log_metric_by_epoch=False),
                     checkpoint=dict(type='SemiCheckpointHook', by_epoch=False, interval=2,
                                     save_last=False)), **kwargs)
        saved = torch.load(tmp_path / name / 'work/iter_4.pth', map_location='cpu',
                           weights_only=False)
        return dict(every.tensors([saved['state_dict'], saved['optimizer']], ''))

    whole, again = run('whole'), run('again')
    assert every.differing(whole, again) == [], f'two equal runs differ: {unsteady()}'
    torch.manual_seed(99)  # a new process would be anywhere
    resumed = run('resumed', resume=True, load_from=str(tmp_path / 'whole/work/iter_2.pth'))
    assert every.differing(whole, resumed) == []


def test_adam_does_not_wait_after_resuming(device, data, tmp_path):
    """It reads its count of steps for each tensor; mmengine loads a checkpoint onto the GPU."""
    case = every.Case('ESL')

    def run(name, **kwargs):
        return tiny.run(
            tmp_path / name, data, case.hooks(dict(type='RunStateHook')), max_iters=2,
            model=case.model_cfg(), train_cfg=dict(type='SemiTrainLoop', max_iters=2),
            wrapper=dict(optimizer=dict(type='AdamW', lr=1e-3)),
            default_hooks=dict(checkpoint=dict(
                type='SemiCheckpointHook', by_epoch=False, interval=1, save_last=False)), **kwargs)

    run('first')
    optimizer = run('then', resume=True, load_from=str(tmp_path / 'first/work/iter_1.pth')
                    ).optim_wrapper.optimizer
    states = list(optimizer.state.values())
    assert states and all(state['step'].device.type == 'cpu' for state in states)
    for tensor in optimizer.state:
        tensor.grad = torch.zeros_like(tensor)
    with errors_of_waiting(device == 'cuda'):
        optimizer.step()


@pytest.mark.parametrize('kind, precision', [
    ('FixMatch', 'float16'), ('ESL', 'float16'), ('ESL', 'bfloat16')][:1 if REHEARSAL else None])
def test_trains_with_everything_on(kind, precision, device, data, tmp_path):
    """Hooks, validation, audit, profile; on a GPU mixed precision and a fused optimiser too."""
    case, amp = every.Case(kind), {}
    if device == 'cuda':
        scale = dict(init_scale=2.0 ** 8) if precision == 'float16' else dict(enabled=False)
        amp = dict(type='AmpOptimWrapper', dtype=precision, loss_scale=scale,
                   optimizer=dict(type='SGD', lr=0.05, fused=True))
    runner = tiny.run(
        tmp_path, data, case.hooks(
            dict(type='ChannelsLastHook'), dict(type='DiagnosticsHook'), dict(type='RunStateHook'),
            dict(type='PseudoLabelAuditHook', interval=2),
            dict(type='StepProfilerHook', iters=1, warmup=1, stop=False)),
        max_iters=4, val=True, model=case.model_cfg(), wrapper=amp,
        train_cfg=dict(type='SemiTrainLoop', max_iters=4, val_interval=4),
        val_cfg=dict(type='SemiValLoop'))
    assert int(runner.model.ema_steps) == 4
    assert (tmp_path / 'work/audit/iter_4.json').is_file()
    assert any(key.endswith('mIoU') for key in runner.message_hub.log_scalars)
    table, = tmp_path.glob('work/*/profile/rank0.txt')
    whole = next(line for line in table.read_text().splitlines() if line.startswith('step '))
    assert (whole.split()[2] == '-') == (device == 'cpu'), whole  # the device's time


class Fill(Hook):
    """From now on the process gets no more of the GPU's memory than it has."""
    priority = 'LOWEST'

    def before_train(self, runner):
        torch.cuda.empty_cache()
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(torch.cuda.memory_reserved() / total)


@on_cuda
def test_a_full_gpu_is_explained(data, tmp_path, device):
    big = copy.deepcopy(tiny.segmentor())
    big['data_preprocessor']['size'] = (512, 512)  # padded to it
    case = every.Case('ESL')
    try:
        with pytest.raises(torch.cuda.OutOfMemoryError, match='batch_size.*--amp.*crop_size'):
            tiny.run(tmp_path, data, case.hooks(Fill()), model=case.model_cfg(big),
                     train_cfg=dict(type='SemiTrainLoop', max_iters=1))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        torch.cuda.empty_cache()


@pytest.mark.parametrize('case', [every.Case('ESL')], ids=repr)
def test_compiled(case, device, exact):
    torch._dynamo.reset()
    backend = 'inductor' if device == 'cuda' else 'eager'
    assert_close(losses_and_gradients(
        case, device, lambda model: compile_networks(model, backend=backend)),
        losses_and_gradients(case, device), 1e-2)


def ranks(folder, backend: str) -> tuple[int, str]:
    """Two processes' worst exit status and what they print.

    Not by torchrun, whose processes have sessions of their own, and outlive it where it is killed.
    """
    job, log = Path(every.__file__).with_name('every_ranks.py'), folder.with_suffix('.txt')
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    with open(log, 'w') as file:
        started = [subprocess.Popen(
            [sys.executable, str(job), str(folder), backend, *map(repr, DEFAULTS)], stdout=file,
            stderr=subprocess.STDOUT, env=dict(
                os.environ, RANK=str(rank), LOCAL_RANK='0', WORLD_SIZE='2',  # one card
                MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port))) for rank in range(2)]
        try:
            while any(process.poll() is None for process in started) \
                    and not any(process.poll() for process in started):
                time.sleep(0.1)
        finally:  # one that failed leaves the other waiting
            for process in started:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(5)
                process.kill()
    return max(abs(process.wait()) for process in started), log.read_text()


@on_cuda
def test_two_ranks_on_one_card(tmp_path, device):
    """NCCL, if it lets two processes share a card; else gloo with the GPU's tensors."""
    code, said = ranks(tmp_path / 'nccl', 'nccl')
    if 'Duplicate GPU' in said:
        code, said = ranks(tmp_path / 'gloo', 'gloo')
    lines = [line for line in said.splitlines() if line.startswith('RESULT ')]
    assert code == 0 and lines, said[-4000:]
    for name, found in json.loads(lines[-1][len('RESULT '):]).items():
        assert found['steps'] == 2 and found['saw_other_images'] and not found['skipped'], name
        assert found['differing'] == [], name
