"""torch.compile for the parts of a teacher-student model that bear it."""
from __future__ import annotations

from typing import Iterator

import torch
from mmengine.hooks import Hook
from mmseg.registry import HOOKS
from torch import nn

from ...semi import network
from ..unwrap import networks_of, unwrap

RECOMPILE_LIMIT = 64


@HOOKS.register_module()
class CompileHook(Hook):
    """Compile a method's networks, not the step around them.

    Compiled are the largest submodules with parameters that contain no module that the method
    listens to (``model.tapped``): the backbone, the neck, the decode head or its children. Taps
    are forward hooks that live for one forward, and a compiled region may keep a hook that it was
    traced with. Around a region, hooks run as ever. mmengine's own ``cfg.compile`` takes the whole
    ``train_step``, which breaks into many graphs here.

    Only ``forward`` of an instance is replaced, so parameters, checkpoints and exports keep their
    names. The numbers agree within rounding, not bit for bit. All of this is our choice.

    Args:
        backend: of torch.compile.
        kwargs: further arguments of torch.compile (mode, dynamic, options).

    Raises:
        RuntimeError: torch has no torch.compile, or a first small function cannot be compiled
            (no compiler, no Triton, a GPU that is too old), or the run sets ``cfg.compile`` too.
    """
    priority = 'VERY_LOW'  # after PartInitHook, which shows the teacher images of other sizes

    def __init__(self, backend: str = 'inductor', **kwargs):
        self.kwargs = dict(kwargs, backend=backend)

    def before_train(self, runner) -> None:
        if runner.cfg.get('compile'):
            raise RuntimeError('CompileHook compiles the networks, and cfg.compile the whole '
                               'train_step around them: leave one of the two out')
        model = unwrap(runner.model)
        require_compiler(next(model.parameters()).device, **self.kwargs)
        names = compile_networks(model, **self.kwargs)
        runner.logger.info(f'compiled with {self.kwargs}: {", ".join(names)}. The first iterations '
                           'are slow')


def require_compiler(device, **kwargs) -> None:
    """Raise RuntimeError, with the cause, unless torch.compile works on this device."""
    if not hasattr(torch, 'compile'):
        raise RuntimeError(f'torch {torch.__version__} has no torch.compile: install torch 2.0 or '
                           'newer, or leave --compile (CompileHook) out')
    try:
        torch.compile(_probe, **kwargs)(torch.ones(8, device=device))
    except Exception as error:  # whatever a backend raises
        cause = getattr(error, 'inner_exception', error)  # torch's first line says no more
        first = (str(cause).strip().splitlines() or [''])[0]
        raise RuntimeError(
            f'torch.compile with {kwargs} does not work on {device}: {type(cause).__name__}: '
            f'{first}. Its default backend needs a C++ compiler (g++, or CXX) and '
            'on GPUs Triton; leave --compile (CompileHook) out to train without') from error


def _probe(x):
    return x.sin() * 2 + 1


def compile_networks(model: nn.Module, **kwargs) -> list[str]:
    """Compile a model's networks in place, see CompileHook.

    Args:
        model: a method or a plain segmentor, not wrapped.
        kwargs: of torch.compile.

    Returns:
        names of the submodules whose ``forward`` is now compiled.
    """
    config = torch._dynamo.config  # ConvModule.forward is one function for all of its instances
    name = 'recompile_limit' if hasattr(config, 'recompile_limit') else 'cache_size_limit'
    setattr(config, name, max(getattr(config, name), RECOMPILE_LIMIT))
    done = []
    plain = model.named(plain=True) if hasattr(model, 'named') else {'': model}
    for kind, net in networks_of(model).items():
        if kind not in plain:
            done.append((kind, net))
            continue
        listened = [network.tapped(net, path)[0] for path in getattr(model, 'tapped', ())]
        for key, child in net.named_children():
            done += regions(child, f'{kind}.{key}' if kind else key, listened)
    for _, module in done:
        module.forward = torch.compile(module.forward, **kwargs)
    return [name for name, _ in done]


def regions(module: nn.Module, name: str, listened: list) -> Iterator[tuple]:
    """(name, module) of the largest modules under ``module`` that contain none of ``listened``."""
    if next(module.parameters(), None) is None or any(module is m for m in listened):
        return
    callable_ = type(module).forward is not nn.Module.forward  # a plain ModuleList is not
    if callable_ and not any(m is inner for m in listened for inner in module.modules()):
        yield name, module
        return
    for key, child in module.named_children():
        yield from regions(child, f'{name}.{key}', listened)
