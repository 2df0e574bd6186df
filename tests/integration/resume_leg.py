"""One start of a training run, watched closely: the resume tests and drill compare several.

``python tests/integration/resume_leg.py CONFIG WORK_DIR '{"train_cfg.max_iters": 12}'`` as one
process, or as several with torch's environment variables (RANK, WORLD_SIZE, ...).
"""
from __future__ import annotations

import hashlib
import json
import os
import random
import sys
import time
import uuid
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmseg.registry import DATASETS, HOOKS

from mmseg_esl import stack
from mmseg_esl.datasets import SemiDataset

# different from one start to the next by their nature
UNSTABLE = ('time', 'data_time', 'host_memory', 'eta', 'cfg', 'experiment_name', 'last_ckpt',
            'best_ckpt', 'mmengine_version')


@DATASETS.register_module()
class LoggedSemiDataset(SemiDataset):
    """Appends 'stream position' to a file for every draw, in whichever process it happens."""

    def __init__(self, draw_log, **kwargs):
        self.draw_log = draw_log
        super().__init__(**kwargs)

    def __getitem__(self, idx):
        append(self.draw_log, f'{idx.key[1]} {idx.key[2]}\n')
        return super().__getitem__(idx)


def append(path, line: str) -> None:
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, line.encode())
    os.close(file)


def digest(state) -> str:
    """SHA-256 of all tensors in nested containers, in order."""
    total = hashlib.sha256()

    def add(value):
        if isinstance(value, torch.Tensor):
            total.update(value.detach().cpu().contiguous().numpy().tobytes())
        elif isinstance(value, dict):
            for key, inner in value.items():
                total.update(str(key).encode())
                add(inner)
        elif isinstance(value, (list, tuple)):
            for inner in value:
                add(inner)
        else:
            total.update(repr(value).encode())

    add(state)
    return total.hexdigest()


@HOOKS.register_module()
class TraceHook(Hook):
    """Notes losses, gradient norm and digests of every state after each iteration."""
    priority = 'LOWEST'

    def __init__(self, path):
        self.path, self.trace = Path(path), {}

    def before_train(self, runner):
        self.begin = time.perf_counter()

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.waited = getattr(self, 'waited', None) or time.perf_counter() - self.begin

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        model = getattr(runner.model, 'module', runner.model)
        parts = {name: digest(part.state_dict()) for name, part in model.named_children()
                 if len(part.state_dict())}
        self.trace[runner.iter + 1] = dict(
            {key: float(value) for key, value in outputs.items()},
            grad_norm=runner.message_hub.get_scalar('train/grad_norm').current(),
            **parts, ema_steps=int(model.ema_steps),
            optimizer=digest(runner.optim_wrapper.state_dict()),
            python=digest(random.getstate()), numpy=digest(np.random.get_state()),
            torch=digest(torch.get_rng_state()))

    def after_train(self, runner):
        out = dict(trace=self.trace, waited=self.waited)
        Path(f'{self.path}_rank{get_rank()}.json').write_text(json.dumps(out))


def config(path, work_dir, options: dict, workers: int = 0, seed=None, resume_from=None):
    """The project's config with everything random in it switched on."""
    work = Path(work_dir)
    work.mkdir(parents=True, exist_ok=True)
    cfg = path.copy() if isinstance(path, Config) else Config.fromfile(str(path))
    cfg.merge_from_dict({
        'work_dir': str(work), 'experiment_name': uuid.uuid4().hex,
        'visualizer.name': uuid.uuid4().hex, 'randomness.seed': seed,
        'train_dataloader.num_workers': workers,
        'train_dataloader.persistent_workers': workers > 0,
        'train_dataloader.dataset.type': 'LoggedSemiDataset',
        'train_dataloader.dataset.draw_log': str(work / 'draws.txt'),
        'optim_wrapper.clip_grad': dict(max_norm=5.0),
        'default_hooks.logger.interval': 5,
        'default_hooks.trace': dict(type='TraceHook', path=str(work / 'trace')), **options})
    if resume_from is not None:
        cfg.resume, cfg.load_from = True, str(resume_from)
    return cfg


def train(cfg) -> Runner:
    runner = Runner.from_cfg(cfg)
    runner.train()
    return runner


def trace(work_dir, rank: int = 0) -> dict:
    found = json.loads((Path(work_dir) / f'trace_rank{rank}.json').read_text())
    return {int(key): value for key, value in found['trace'].items()}


def draws(work_dir) -> list:
    """(stream, position) of everything that was loaded, in the order of time."""
    lines = (Path(work_dir) / 'draws.txt').read_text().splitlines()
    return [tuple(map(int, line.split())) for line in lines]


def compare_traces(whole: dict, resumed: dict, start: int) -> list:
    """Names 'iteration: key' of what is not identical after ``start``."""
    expected = {key: value for key, value in whole.items() if key > start}
    assert expected.keys() == resumed.keys(), (expected.keys(), resumed.keys())
    return [f'{it}: {key}' for it, values in expected.items()
            for key in {**values, **resumed[it]} if values.get(key) != resumed[it].get(key)]


def compare_checkpoints(first, second) -> list:
    """Paths of the leaves of two checkpoint files that differ at all."""
    a, b = ({}, {})
    for file, out in ((first, a), (second, b)):
        _leaves('', torch.load(file, weights_only=False, map_location='cpu'), out)
    return [key for key in {**a, **b} if not _same(a.get(key), b.get(key))]


def _leaves(name, value, out):
    if name.rsplit('/', 1)[-1] in UNSTABLE:
        return
    if hasattr(value, '_log_history'):
        value = dict(values=value._log_history, counts=value._count_history)
    if isinstance(value, dict):
        for key, inner in value.items():
            _leaves(f'{name}/{key}', inner, out)
    elif isinstance(value, (list, tuple)):
        for index, inner in enumerate(value):
            _leaves(f'{name}/{index}', inner, out)
    else:
        out[name] = value


def _same(a, b) -> bool:
    if isinstance(a, (torch.Tensor, np.ndarray)):
        equal = torch.equal if isinstance(a, torch.Tensor) else np.array_equal
        return type(a) is type(b) and a.dtype == b.dtype and equal(a, b)
    return a == b


def count_opened_images(path) -> None:
    """From now on, note every training image that this process or a worker of its opens."""
    def hook(event, args):
        name = args[0] if event == 'open' and args and isinstance(args[0], (str, Path)) else ''
        if str(name).endswith('.png') and ('images/train' in str(name)
                                           or 'images/unlabeled' in str(name)):
            append(path, f'{name}\n')
    sys.addaudithook(hook)


def main() -> None:
    torch.set_num_threads(1)
    path, work_dir, arguments = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
    cfg = config(path, work_dir, **arguments)
    cfg.launcher = 'pytorch' if 'RANK' in os.environ else 'none'
    stack.prepare_cpu(cfg)
    count_opened_images(Path(work_dir) / 'opened.txt')
    train(cfg)


if __name__ == '__main__':
    main()
