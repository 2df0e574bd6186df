"""Catch what a submodule is given or gives during one forward, and leave no trace."""
from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import Callable, Iterator

from torch import Tensor, nn


@dataclass(frozen=True)
class Tap:
    """Features on their way to a module of the decoder, and what is made of them.

    Args:
        path: dotted, within the segmentor, of the module whose input they are.
        project: takes them.
    """
    path: str
    project: Callable[[Tensor], Tensor]


class FeatureTap:
    """Listens to one submodule for the length of a ``with`` block.

    Hooks are removed at the end of the block: a hook that stayed would be carried into the
    teacher by deepcopy.

    Args:
        module: the submodule to listen to.
        name: how to call it in errors.
        output: True for what the module returns, False for its first input.
    """

    def __init__(self, module: nn.Module, name: str, output: bool = False):
        self.module, self.name, self.output = module, name, output
        self._caught: list = []

    @contextmanager
    def listen(self) -> Iterator[FeatureTap]:
        self._caught = []
        register = (self.module.register_forward_hook
                    if self.output else self.module.register_forward_pre_hook)
        handle = register(self._catch)
        try:
            yield self
        finally:
            handle.remove()

    def _catch(self, module, args, out=None):
        self._caught.append(out if self.output else args[0])

    def first(self) -> list[Tensor]:
        """All stages of what was caught first."""
        value, self._caught = self._caught[0], []
        return list(value) if isinstance(value, (list, tuple)) else [value]

    def take(self) -> Tensor:
        """The one caught tensor; the last of several stages.

        Raises:
            RuntimeError: the module did not run exactly once.
        """
        if len(self._caught) != 1:
            raise RuntimeError(
                f"'{self.name}' ran {len(self._caught)} times in one forward, but its features can "
                "be tapped only if it runs once. Name another module in the model's "
                "'embedding' key, or train without what reads these features")
        value, self._caught = self._caught[0], []
        return last_stage(value)


def last_stage(value) -> Tensor:
    """Features of what a backbone gives: the last stage's, without its class token (ViT)."""
    value = value[-1] if isinstance(value, (list, tuple)) else value
    return value[0] if isinstance(value, (list, tuple)) else value


def find_module(root: nn.Module, path: str) -> nn.Module:
    """Submodule at a dotted path; an index picks from a list, -1 the last.

    Raises:
        ValueError: there is none; says which step failed and what is there instead.
    """
    module = root
    for step in path.split('.'):
        if isinstance(module, (nn.ModuleList, nn.Sequential)) and step.lstrip('-').isdigit():
            child = module[int(step)] if -len(module) <= int(step) < len(module) else None
        else:
            child = getattr(module, step, None)
        if not isinstance(child, nn.Module):
            there = ', '.join(name for name, _ in module.named_children())
            raise ValueError(
                f"{type(module).__name__} has no module '{step}' (of the path '{path}'), so "
                f"there is nothing to read. Set the model's 'embedding' key to the module whose "
                f"input are the decoder's features (there are: {there}), or train without what "
                'reads them')
        module = child
    return module
