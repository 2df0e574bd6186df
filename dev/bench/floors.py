"""The floor of a step: the passes of its networks, a loss of what they predict, and no more.

A real step is listened to: which network, or part of one, saw how many images, with a gradient or
without. The floor then runs those passes alone, in the same order, on what they were given, and
takes the optimiser's step. Each trained prediction is brought to full resolution for one cross
entropy. Labels, mixing, colours, prototypes, queues, averages and diagnostics are not in it.
"""
from __future__ import annotations

import statistics
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmseg_esl.models.segmentors import main_head

from .counting import count_step
from .measuring import alternate, peak_memory, ratio
from .models import build, load, make_batch, train_step


@dataclass
class Place:
    """A tensor that an earlier call of the step returned."""
    call: int
    number: int


@dataclass
class Held:
    """A tensor that came from elsewhere, without its history."""
    tensor: Tensor
    grad: bool


@dataclass
class Call:
    """One pass of a module over some images.

    Args:
        args, kwargs: as given, with Place and Held for tensors.
        grad: gradients were wanted. frozen: but not of its own weights. training: its mode.
    """
    module: nn.Module
    images: int
    args: tuple
    kwargs: dict
    grad: bool
    frozen: bool
    training: bool


class Floor:
    """A step's floor, called as the step is.

    Args:
        model: a method whose networks are not compiled yet. optimizer: its wrapper.
        batch: as the data loader gives it.
    """

    def __init__(self, model, optimizer, batch):
        self.model, self.optimizer, self.batch = model, optimizer, batch
        with optimizer.optim_context(model):  # autocast, if the step has it
            data = model.data_preprocessor(batch, training=True)
            with listening(model) as calls:
                model.loss(**data)
        model.after_skipped_step()  # takes back what is staged
        self.calls, self.size = calls, data['inputs'].shape[-2:]
        self.labels = torch.randint(model.num_classes, (max(c.images for c in calls), *self.size),
                                    device=data['inputs'].device)
        self.last = list(range(len(calls)))  # who reads what a call returns
        for i, call in enumerate(calls):
            for place in leaves((call.args, call.kwargs), Place):
                self.last[place.call] = i

    def units(self) -> tuple[int, int]:
        """Forwards of encoders and of decoders, of one image; one with its backward counts 3."""
        plain = self.model.named(plain=True).values()
        return tuple(
            sum(call.images * (3 if call.grad and not call.frozen else 1)
                for call in self.calls if any(call.module is part for part in parts))
            for parts in ([net.backbone for net in plain], [main_head(net) for net in plain]))

    def __call__(self) -> None:
        model, outs, read = self.model, [], set()
        model.data_preprocessor(self.batch, training=True)
        with self.optimizer.optim_context(model):
            for i, call in enumerate(self.calls):
                args, kwargs = self._given(call, outs, read)
                with torch.set_grad_enabled(call.grad), as_it_was(call):
                    outs.append(leaves(call.module(*args, **kwargs)))
                del args, kwargs
                for j in (j for j in range(i + 1) if self.last[j] == i):
                    outs[j] = [x if x.requires_grad else None for x in outs[j]]
            loss = sum(self._loss(x, self.calls[i], (i, k) in read)
                       for i, out in enumerate(outs) for k, x in enumerate(out) if x is not None)
        self.optimizer.update_params(loss)

    def _given(self, call: Call, outs: list, read: set) -> tuple[tuple, dict]:
        def take(x):
            if isinstance(x, Held):
                return x.tensor.detach().requires_grad_(x.grad)
            if isinstance(x, Place):
                if call.grad:
                    read.add((x.call, x.number))
                return outs[x.call][x.number]
            return x
        return mapped(call.args, take), mapped(call.kwargs, take)

    def _loss(self, out: Tensor, call: Call, read: bool) -> Tensor | float:
        """The cross entropy of a trained prediction; of what else nobody reads, a way back."""
        if out.dim() == 4 and out.shape[1] == self.model.num_classes and not call.frozen:
            logits = F.interpolate(out, size=self.size, mode='bilinear',
                                   align_corners=self.model.align_corners)
            return F.cross_entropy(logits, self.labels[:len(out)], ignore_index=255)
        return 0.0 if read else 0.0 * out.mean()


# -------------------------------------------------------------------------------- what is heard


@contextmanager
def listening(model) -> Iterator[list[Call]]:
    """Collect, within the block, the outermost calls of modules with weights, of all networks.

    Whoever makes them: mmseg's heads call their own ``forward``, past torch's hooks. A call that is
    made within another module's, as those for the adversarial noise of its input, is one of its own
    where it is no part of it.
    """
    calls, origin, keep, inside, undo = [], {}, [], [], []

    def note(x):
        if isinstance(x, Tensor):
            return origin.get(id(x)) or Held(x.detach(), x.requires_grad)
        return x

    def listener(module, forward):
        def listen(*args, **kwargs):
            if any(module is part for outer in inside for part in outer.modules()):
                return forward(*args, **kwargs)
            number = len(calls)
            calls.append(Call(
                module, len(leaves((args, kwargs))[0]), mapped(args, note), mapped(kwargs, note),
                torch.is_grad_enabled(), not any(p.requires_grad for p in module.parameters()),
                module.training))
            inside.append(module)
            try:
                out = forward(*args, **kwargs)
            finally:
                inside.pop()
            for k, x in enumerate(leaves(out)):
                origin[id(x)] = Place(number, k)
                keep.append(x)  # or another tensor could have its id
            return out
        return listen

    for net in model.named().values():
        for module in net.modules():
            if (next(module.parameters(), None) is not None
                    and type(module).forward is not nn.Module.forward):
                undo.append(module)
                module.forward = listener(module, module.forward)
    try:
        yield calls
    finally:
        for module in undo:
            del module.forward


@contextmanager
def as_it_was(call: Call) -> Iterator[None]:
    """Run a module, within the block, in the mode and with the frozen weights of a call."""
    module = call.module
    modes = [(m, m.training) for m in module.modules()] if module.training != call.training else ()
    params = [p for p in module.parameters() if p.requires_grad] if call.frozen else ()
    try:
        if modes:
            module.train(call.training)
        for p in params:
            p.requires_grad_(False)
        yield
    finally:
        for one, training in modes:
            one.training = training
        for p in params:
            p.requires_grad_(True)
        if not torch.is_grad_enabled():  # see models/running.py
            torch.clear_autocast_cache()


def mapped(tree: Any, change: Callable) -> Any:
    """A function of each leaf of tuples, lists and dictionaries."""
    if isinstance(tree, (list, tuple)):
        return type(tree)(mapped(x, change) for x in tree)
    if isinstance(tree, dict):
        return {key: mapped(x, change) for key, x in tree.items()}
    return change(tree)


def leaves(tree: Any, kind: type = Tensor) -> list:
    """The leaves of a kind, in order."""
    found = []
    mapped(tree, lambda x: found.append(x) if isinstance(x, kind) else None)
    return found


# --------------------------------------------------------------------------------- measurements


def run(device: str, rounds: int, depth: int, crop: int, batch: int, classes: int, methods,
        say=print) -> Iterator[dict]:
    """A row for each method: its step against its floor, A B A B; memory, operations, waits."""
    batch = max(batch, 2)  # batch norm after global pooling takes no single image
    for name in methods:
        say(f'{name}: R{depth}, {classes} classes, crop {crop}, {batch} + {batch} images')
        model, optimizer = build(load(depth, crop, classes, name), device)
        yield dict(method=name, network=f'R{depth}',
                   **measure(model, optimizer, make_batch(batch, batch, classes, crop), rounds))


def measure(model, optimizer, batch: dict, rounds: int) -> dict:
    """The figures of a row."""
    floor = Floor(model, optimizer, batch)
    works = dict(step=lambda: train_step(model, optimizer, batch), floor=floor)
    times, images = alternate(works, rounds), batch['inputs']
    seconds = {name: statistics.median(values) for name, values in times.items()}
    return dict(
        classes=model.num_classes, crop=images[0].shape[-1], images=len(images),
        units=[number / len(images) * 2 for number in floor.units()],
        seconds=seconds, times=times, ratio=ratio(times, 'step', 'floor'),
        memory={key: peak_memory(work) for key, work in works.items()},
        counts=count_step(model, batch), images_per_second=len(images) / seconds['step'])
