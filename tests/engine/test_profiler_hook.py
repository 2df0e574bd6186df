"""StepProfilerHook: what it writes, when it ends, and that no phase is lost."""
import gzip
import json
import time
from collections import Counter

import pytest
import tiny
import torch
from torch.utils._python_dispatch import TorchDispatchMode

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


def test_training_may_go_on_and_warm_up_is_mentioned(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr('logging.Logger.warning', lambda self, text, *a: said.append(str(text)))
    runner = profiled(tmp_path, model=tiny.esl_cfg(warmup_iters=5),
                      hook=dict(type='StepProfilerHook', iters=1, warmup=1, stop=False))
    assert runner.iter == 9 and written(tmp_path, 'txt').exists()
    assert any('semi_train_cfg.warmup_iters=0 (it is 5)' in text for text in said)


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
