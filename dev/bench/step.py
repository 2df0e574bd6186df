"""A whole ESL step against its floor: what any teacher-student step with a projector has to do."""
from __future__ import annotations

import statistics
import sys
from collections import defaultdict
from contextlib import contextmanager

import torch

from .counting import count_step
from .floors import Floor
from .measuring import Work, alternate, peak_memory, ratio
from .models import build, load, make_batch, train_step

FUNCTIONAL = 'mmseg_esl.functional'


@contextmanager
def recorded():
    """Collect every call that the package makes to ``functional``: (name, function, args, kwargs).

    Found are the functions that a module of the package has imported by name.
    """
    calls, undo = [], []

    def listener(name, function):
        def listen(*args, **kwargs):
            calls.append((name, function, args, kwargs))
            return function(*args, **kwargs)
        return listen

    users = [module for name, module in list(sys.modules.items())
             if name.startswith('mmseg_esl.') and not name.startswith(FUNCTIONAL)]
    for module in users:
        for name, function in list(vars(module).items()):
            if (callable(function) and not isinstance(function, type)
                    and (getattr(function, '__module__', None) or '').startswith(FUNCTIONAL)):
                undo.append((module, name, function))
                setattr(module, name, listener(name, function))
    try:
        yield calls
    finally:
        for module, name, function in undo:
            setattr(module, name, function)


def replays(model, optimizer, batch) -> dict[str, list[Work]]:
    """The functional calls of one real step, by name, each to be run again on its own with the
    arguments that it had; forward and, where a gradient flows, backward."""
    with recorded() as calls:
        train_step(model, optimizer, batch)
    works = defaultdict(list)
    for name, function, args, kwargs in calls:
        leaves = []

        def apart(x, leaves=leaves):
            if not torch.is_tensor(x) or not x.requires_grad:
                return x
            leaves.append(x.detach().requires_grad_())
            return leaves[-1]

        args, kwargs = [apart(a) for a in args], {k: apart(v) for k, v in kwargs.items()}
        works[name].append(Work(replay(function, args, kwargs, bool(leaves)), leaves))
    return dict(works)


def replay(function, args, kwargs, gradient: bool):
    def forward():
        with torch.set_grad_enabled(gradient):
            out = function(*args, **kwargs)
        out = out[0] if isinstance(out, tuple) else out
        return out.float().sum() if gradient else None
    return forward


def run(device: str, rounds: int, depth: int, crop: int, batch: int, classes: int,
        say=print) -> dict:
    """ESL step against the floor, A B A B; shares of the pieces; operations and waits."""
    model, optimizer = build(load(depth, crop, classes), device)
    data = make_batch(batch, batch, classes, crop)
    works = dict(esl=lambda: train_step(model, optimizer, data),
                 floor=Floor(model, optimizer, data))
    say(f'step: R{depth}, {classes} classes, crop {crop}, {batch} + {batch} images')
    times = alternate(works, rounds)
    seconds = {name: statistics.median(values) for name, values in times.items()}
    say('step: pieces')
    pieces = {}
    for name, calls in replays(model, optimizer, data).items():
        spent = alternate({str(i): work for i, work in enumerate(calls)}, rounds)
        pieces[name] = dict(calls=len(calls),
                            seconds=sum(statistics.median(v) for v in spent.values()))
    say('step: operations and memory')
    return dict(
        depth=depth, classes=classes, crop=crop, images=2 * batch, seconds=seconds, times=times,
        ratio=ratio(times, 'esl', 'floor'), pieces=pieces, counts=count_step(model, data),
        memory={name: peak_memory(work) for name, work in works.items()},
        images_per_second=2 * batch / seconds['esl'])
