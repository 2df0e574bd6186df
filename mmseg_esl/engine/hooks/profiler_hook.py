"""Where the time of a training step goes."""
from __future__ import annotations

import os
import os.path as osp

import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.runner import IterBasedTrainLoop
from mmseg.registry import HOOKS
from torch.autograd import DeviceType
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import profile, schedule

from ...functional.phases import phase
from ..unwrap import unwrap

# ranges that torch itself names
TORCH_RANGES = {'enumerate(DataLoader)': 'wait for data', 'Optimizer.step': 'optimizer step',
                'Optimizer.zero_grad': 'zero gradients'}
STEP = 'ProfilerStep'
DEVICE_TIME = 'device_time_total' if hasattr(FunctionEvent, 'device_time_total') \
    else 'cuda_time_total'  # before torch 2.4


@HOOKS.register_module()
class StepProfilerHook(Hook):
    """Profile some iterations, write a trace and two tables, and end the training.

    ``profile/rank0.pt.trace.json.gz`` in the run's log folder opens in ui.perfetto.dev,
    chrome://tracing and TensorBoard's profiler plugin; ``profile/rank0.txt`` holds the time of each
    phase (see :func:`mmseg_esl.functional.phases.phase`) and of the operators that took most; the
    phases are logged too. One file for each rank. mmengine's ProfilerHook does not serve here: it
    counts iterations from 0, so that a resumed run never ends its profile, all ranks write to one
    file, and it knows no phases.

    Args:
        iters: iterations to profile.
        warmup: iterations before them, at least 1: allocator, cuDNN's search, torch.compile and
            loader workers have to settle, and the profiler itself.
        stop: end the training afterwards. No checkpoint is written for it.

    Raises:
        ValueError: iters or warmup below 1; fewer iterations than both are left to train, or the
            train loop counts epochs.
    """
    priority = 'LOWEST'  # what other hooks do after an iteration belongs to the step

    def __init__(self, iters: int = 10, warmup: int = 5, stop: bool = True):
        if iters < 1 or warmup < 1:
            raise ValueError('StepProfilerHook: iters and warmup must be at least 1, got '
                             f'{iters} and {warmup}')
        self.iters, self.warmup, self.stop = iters, warmup, stop
        self._profiler = None

    def before_train(self, runner) -> None:
        if not isinstance(runner.train_loop, IterBasedTrainLoop):
            raise ValueError("StepProfilerHook counts iterations: set train_cfg.type="
                             "'SemiTrainLoop' or 'IterBasedTrainLoop'")
        left, needed = runner.max_iters - runner.iter, self.warmup + self.iters
        if left < needed:
            raise ValueError(f'{needed} iterations are needed to profile {self.iters} after '
                             f'{self.warmup} of warm-up, and {left} are left to train: raise '
                             'train_cfg.max_iters or profile fewer')
        self._done = 0
        model = unwrap(runner.model)
        supervised = getattr(getattr(model, 'cfg', None), 'warmup_iters', 0)
        if runner.iter + needed <= supervised:
            runner.logger.warning(
                f'the profiled iterations lie in the supervised warm-up: set model.semi_train_cfg.'
                f'warmup_iters=0 (it is {supervised}) to profile a step with all its terms')
        if self.warmup == 1:
            self._start(runner)

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        self._done += 1
        if self._profiler is not None:
            self._profiler.step()  # the last one calls _write
            if self._done == self.warmup + self.iters:
                self._end()
                runner.train_loop.stop_training |= self.stop
        elif self._done == self.warmup - 1:
            self._start(runner)

    def after_train(self, runner) -> None:
        self._end()  # stopped by somebody else

    def _start(self, runner) -> None:
        # mmengine's own, which have no name in a trace
        self._named = [(unwrap(runner.model).data_preprocessor, 'forward', 'preprocess'),
                       (runner.optim_wrapper, 'backward', 'backward')]
        if runner.val_loop is not None:
            self._named.append((runner.val_loop, 'run', 'validation'))
        for owner, method, name in self._named:
            setattr(owner, method, phase(name)(getattr(owner, method)))
        self._profiler = profile(
            schedule=schedule(wait=0, warmup=1, active=self.iters, repeat=1),
            on_trace_ready=lambda profiler: self._write(runner, profiler))
        self._profiler.start()

    def _end(self) -> None:
        if self._profiler is None:
            return
        self._profiler.stop()
        self._profiler = None
        for owner, method, _ in self._named:
            delattr(owner, method)

    def _write(self, runner, profiler) -> None:
        name = osp.join(runner.log_dir, 'profile', f'rank{get_rank()}')
        os.makedirs(osp.dirname(name), exist_ok=True)
        profiler.export_chrome_trace(f'{name}.pt.trace.json.gz')
        phases = format_phases(phase_times(profiler.events()))
        busy = 'self_cuda_time_total' if torch.cuda.is_available() else 'self_cpu_time_total'
        with open(f'{name}.txt', 'w', encoding='utf-8') as file:
            file.write(f'{phases}\n\n{profiler.key_averages().table(sort_by=busy, row_limit=40)}\n')
        runner.logger.info(f'{self.iters} iterations profiled; {name}.txt, and the trace '
                           f'{name}.pt.trace.json.gz\n{phases}')


def phase_times(events) -> dict[tuple, list]:
    """Mean time of each phase in a step.

    Args:
        events: of a torch.profiler.profile whose ``step`` was called between steps.

    Returns:
        ``{path: [host ms, device ms]}``, in the order of a step; a path is the names of a phase
        and of those around it, ``()`` the whole step. Device time is that of the kernels started
        from within (0 without a device); those of backward run in autograd's own thread there and
        are found by autograd's names.
    """
    events = [e for e in events if e.device_type == DeviceType.CPU]
    steps = sum(e.name.startswith(STEP) for e in events)
    out: dict = {}
    backward = 0.0
    for event in sorted(events, key=lambda e: e.time_range.start):
        device = getattr(event, DEVICE_TIME, 0.0) or 0.0
        if event.is_user_annotation:
            times = out.setdefault(_path(event), [0.0, 0.0])
            times[0] += event.cpu_time_total / 1000 / steps
            times[1] += device / 1000 / steps
        elif event.name.startswith('autograd::engine') and event.cpu_parent is None:
            backward += device / 1000 / steps
    for path in out:
        if path and path[-1] == 'backward' or not path:
            out[path][1] += backward
    return out


def _path(event) -> tuple:
    names = []
    while event is not None:
        if event.is_user_annotation and not event.name.startswith(STEP):
            known = event.name.partition('#')[0]
            names.append(TORCH_RANGES.get(known, event.name))
        event = event.cpu_parent
    return tuple(reversed(names))


def format_phases(times: dict[tuple, list]) -> str:
    """A table of :func:`phase_times`, parts indented below their whole, the rest at the end."""
    whole = times[()]
    column = 1 if whole[1] else 0  # a device's time is what counts where there is one
    rows = [('phase', 'host ms', 'device ms', 'share')]
    top = [t for path, t in times.items() if len(path) == 1]
    rest = [whole[i] - sum(t[i] for t in top) for i in (0, 1)]
    ordered = sorted((p for p in times if p), key=lambda p: [list(times).index(p[:i + 1])
                                                             for i in range(len(p))])
    named = [('  ' * (len(p) - 1) + p[-1], times[p]) for p in ordered]
    for name, t in [*named, ('elsewhere', rest), ('step', whole)]:
        rows.append((name, f'{t[0]:.2f}', f'{t[1]:.2f}' if column else '-',
                     f'{t[column] / whole[column]:.1%}'))
    return '\n'.join(f'{a:<28}{b:>10}{c:>11}{d:>8}' for a, b, c, d in rows)
