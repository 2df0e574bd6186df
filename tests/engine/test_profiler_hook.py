"""StepProfilerHook: what it writes, when it ends, and that no phase is lost."""
import gzip
import json
import os
import re
import time
from collections import Counter
from types import SimpleNamespace

import pytest
import tiny
import torch
from torch.autograd import DeviceType
from torch.utils._python_dispatch import TorchDispatchMode

from mmseg_esl.engine.hooks.profiler_hook import (
    DEVICE_TIME,
    StepProfilerHook,
    format_phases,
    phase_times,
)
from mmseg_esl.functional.phases import phase

LOOP = dict(type='SemiTrainLoop', max_iters=9, val_interval=9)
GUARD = dict(type='FiniteGuardHook')
PHASES = ('wait for data', 'preprocess', 'teacher', 'soft label', 'strong view', 'student',
          '  supervised loss', 'soft cross entropy', 'contrast', '  parts', 'backward',
          'optimizer step', '  finite check', '  EMA', 'zero gradients', 'elsewhere', 'step')


def profiled(tmp_path, data=None, hook=None, loop=LOOP, **kwargs):
    if data is None:
        data = tmp_path / 'data'
        tiny.write_data(data)
    hook = hook or dict(type='StepProfilerHook', iters=2, warmup=1)
    return tiny.run(tmp_path, data, [tiny.EMA, tiny.PARTS, GUARD, hook], max_iters=9,
                    train_cfg=loop, **kwargs)


def written(tmp_path, suffix):
    path, = tmp_path.glob(f'work/*/profile/rank0.{suffix}')
    return path


def test_trace_table_and_end(tmp_path):
    runner = profiled(tmp_path)
    assert runner.iter == 3 and not list(tmp_path.glob('work/*.pth'))

    with gzip.open(written(tmp_path, 'pt.trace.json.gz'), 'rt') as file:
        events = json.load(file)['traceEvents']
    ranges = [e for e in events if e.get('cat') == 'user_annotation']
    counts = Counter(e['name'] for e in ranges)
    names = [p.strip() for p in PHASES if p not in ('wait for data', 'optimizer step',
                                                    'zero gradients', 'elsewhere', 'step')]
    assert {name: counts[name] for name in names} == dict.fromkeys(names, 2)

    lines = written(tmp_path, 'txt').read_text().split('\n\n')[0].splitlines()[1:]
    assert tuple(line[:28].rstrip() for line in lines) == PHASES
    shares = {name: float(line.split()[-1][:-1]) for name, line in zip(PHASES, lines)}
    assert shares.pop('step') == 100
    assert sum(v for k, v in shares.items() if k[0] != ' ') == pytest.approx(100, abs=1)
    # against the trace, which is written by other code (microseconds, both steps)
    for name in ('teacher', 'parts', 'EMA', 'backward'):
        line, = [line for line in lines if line[:28].strip() == name]
        total = sum(e['dur'] for e in ranges if e['name'] == name)
        assert float(line[28:].split()[0]) == pytest.approx(total / 2000, abs=0.02)

    operators = written(tmp_path, 'txt').read_text().split('\n\n')[1].splitlines()[3:]
    own = [float(found[1]) for found in (re.search(r' (\d+\.\d+)%', row) for row in operators)
           if found]
    if not torch.cuda.is_available():  # else by the device's
        assert own == sorted(own, reverse=True) and own[0] > own[-1]

    # nothing stays behind
    assert not torch.autograd._profiler_enabled()
    assert 'backward' not in vars(runner.optim_wrapper)
    assert 'forward' not in vars(runner.model.data_preprocessor)


def test_a_resumed_run_ends_its_profile_too(tmp_path):
    data = tmp_path / 'data'
    tiny.write_data(data)
    tiny.run(tmp_path / 'first', data, [tiny.EMA, tiny.PARTS], max_iters=4, save_every=4)
    runner = profiled(tmp_path, data, hook=dict(type='StepProfilerHook', iters=1, warmup=2),
                      val=True, loop=dict(LOOP, val_interval=6), resume=True,
                      load_from=str(tmp_path / 'first/work/iter_4.pth'))
    assert runner.iter == 7
    table = written(tmp_path, 'txt').read_text().split('\n\n')[0]
    assert 'teacher' in table and 'validation' in table  # after the 6th, before the 7th


def test_refusals(tmp_path):
    with pytest.raises(ValueError, match='at least 1, got 0 and 5'):
        profiled(tmp_path, hook=dict(type='StepProfilerHook', iters=0))
    with pytest.raises(ValueError, match='10 iterations are needed .* and 9 are left'):
        profiled(tmp_path / 'b', hook=dict(type='StepProfilerHook', iters=5))
    with pytest.raises(ValueError, match='15 iterations are needed to profile 10 after 5'):
        profiled(tmp_path / 'c', hook=dict(type='StepProfilerHook'))


@pytest.mark.parametrize('iters, done, warm_up, said', [
    (7, 0, 0, None), (5, 2, 0, None), (5, 3, 0, ValueError),  # of nine; two are the profiler's
    (1, 0, 2, None), (1, 0, 3, 'lie in the supervised warm-up'), (1, 1, 3, None)])
def test_what_is_left(tmp_path, monkeypatch, iters, done, warm_up, said):
    tiny.write_data(tmp_path)
    runner = tiny.runner(tmp_path / 'work', tmp_path, [], model=tiny.method_cfg('Supervised'),
                         train_cfg=LOOP)
    runner.train_loop._iter, runner.model.cfg.warmup_iters = done, warm_up
    heard = []
    monkeypatch.setattr(runner.logger, 'warning', heard.append)
    hook = StepProfilerHook(iters=iters, warmup=2)
    if said is ValueError:
        with pytest.raises(ValueError, match='7 iterations are needed.*and 6 are left'):
            hook.before_train(runner)
        return
    hook.before_train(runner)
    assert len(heard) == bool(said) and all(said in text for text in heard)


def test_training_may_go_on_and_warm_up_is_mentioned(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr('logging.Logger.warning', lambda self, text, *a: said.append(str(text)))
    monkeypatch.setattr(StepProfilerHook, 'before_run', lambda self, runner: os.makedirs(
        os.path.join(runner.log_dir, 'profile')))  # as another rank has, which was faster
    runner = profiled(tmp_path, model=tiny.esl_cfg(warmup_iters=5),
                      hook=dict(type='StepProfilerHook', iters=1, warmup=1, stop=False))
    assert runner.iter == 9 and written(tmp_path, 'txt').exists()
    assert any('semi_train_cfg.warmup_iters=0 (it is 5)' in text for text in said)


def event(name, start, host=0, phase=True, parent=None, on=DeviceType.CPU, **device):
    """As torch gives them, by its name of the day; times are microseconds."""
    device = {DEVICE_TIME: device['device']} if device else {}
    return SimpleNamespace(
        name=name, time_range=SimpleNamespace(start=start), cpu_time_total=host, cpu_parent=parent,
        is_user_annotation=phase, device_type=on, **device)


def test_phases_of_two_steps_on_a_device():
    """Kernels of backward are started in a thread of autograd's own, around which no phase is."""
    found = []
    for number, start in enumerate((0, 100)):
        step = event(f'ProfilerStep#{number}', start, 9000, device=4000.0)
        teacher = event('teacher', start + 1, 2000 + 2000 * number, parent=step,
                        device=1000)
        kernel = event('aten::mul', start + 2, 50, phase=False, parent=teacher,
                       device=1000)
        backward = event('backward', start + 3, 1000, parent=step, device=None)
        engine = event('autograd::engine::evaluate_function: Mul', start + 4, 500, phase=False,
                       device=2500)
        inner = event('autograd::engine::inner', start + 5, 500, phase=False, parent=engine,
                      device=100)
        elsewhere = event('aten::add', start + 6, 500, phase=False, device=70)
        update = event('Optimizer.step#SGD.step', start + 7, 600, parent=step)
        average = event('EMA', start + 8, 400, parent=update, device=200)
        found += [step, teacher, kernel, backward, engine, inner, elsewhere, update, average,
                  event('mul_kernel', start + 2, 1000, on=DeviceType.CUDA, device=1000)]
    times = phase_times(reversed(found))
    wanted = {(): [9, 6.5], ('teacher', ): [3, 1], ('backward', ): [1, 2.5],
              ('optimizer step', ): [0.6, 0], ('optimizer step', 'EMA'): [0.4, 0.2]}
    assert list(times) == list(wanted)
    for path, pair in wanted.items():
        assert times[path] == pytest.approx(pair, rel=1e-9), path


TIMES = {(): [10, 4], ('a', ): [4, 1], ('b', ): [5, 2], ('a', 'x'): [3, 0.5]}


def test_the_table_of_phases():
    """A part stands below its whole, wherever it came first; shares are of the device's time."""
    assert [line.split() for line in format_phases(TIMES).splitlines()[1:]] == [
        ['a', '4.00', '1.00', '25.0%'], ['x', '3.00', '0.50', '12.5%'],
        ['b', '5.00', '2.00', '50.0%'], ['elsewhere', '1.00', '1.00', '25.0%'],
        ['step', '10.00', '4.00', '100.0%']]
    host = {path: [time, 0.0] for path, (time, _) in TIMES.items()}
    lines = format_phases(host).splitlines()
    assert [line.split() for line in lines[1:]] == [
        ['a', '4.00', '-', '40.0%'], ['x', '3.00', '-', '30.0%'], ['b', '5.00', '-', '50.0%'],
        ['elsewhere', '1.00', '-', '10.0%'], ['step', '10.00', '-', '100.0%']]
    assert [line[:3] for line in lines[1:4]] == ['a  ', '  x', 'b  ']


class Count(TorchDispatchMode):
    calls = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.calls += 1
        return func(*args, **(kwargs or {}))


@phase('doubled')
def double(x):
    """Twice."""
    return 2 * x


def test_a_phase_is_cheap_without_a_profiler():
    x = torch.ones(1)
    with Count() as count:
        out = double(x)
    assert out.item() == 2 and double.__doc__ == 'Twice.'
    assert count.calls == 1
    begin = time.perf_counter()
    for _ in range(10000):
        with phase('nothing'):
            pass
    assert (time.perf_counter() - begin) / 10000 < 50e-6  # 1.6 us on an idle core
