"""An optimiser of what is trained, and of nothing else; or several that act as one."""
from __future__ import annotations

import copy

import torch
from mmengine.optim import OptimWrapper
from mmseg.registry import OPTIM_WRAPPER_CONSTRUCTORS

from .unwrap import unwrap


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class StudentOptimWrapperConstructor:
    """Build the optimiser from the trained networks.

    The first network's parameters have the plain segmentor's own names, other networks' names stand
    before theirs. mmengine's default also works, but lists every frozen tensor of the averages in
    the log; and constructors that look at ``model.backbone`` (layer decay) need plain segmentors:
    each one is shown to them by itself.

    Args:
        optim_wrapper_cfg: as mmengine's; its key ``networks``, ``{name: dict(optimizer=...,
            paramwise_cfg=...)}``, gives networks an optimiser of their own, see
            :class:`SeveralOptimizers`.
        paramwise_cfg: as mmengine's; its key ``constructor`` names the constructor that does the
            work, DefaultOptimWrapperConstructor by default.

    Raises:
        ValueError: ``networks`` names what is no trained network.
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None):
        self.wrapper = dict(optim_wrapper_cfg)
        self.own = dict(self.wrapper.pop('networks', None) or {})
        self.paramwise = dict(paramwise_cfg or {})

    def __call__(self, model) -> OptimWrapper:
        model = unwrap(model)
        if not hasattr(model, 'named'):  # a plain segmentor
            return self._build(model, self.wrapper, self.paramwise)
        trained, plain = model.named(trained=True), model.named(plain=True)
        unknown = [name for name in self.own if name not in trained]
        if unknown:
            raise ValueError(f'optim_wrapper.networks: {", ".join(unknown)} is no trained network; '
                             f'there are {", ".join(trained)}')
        together = {name: net for name, net in trained.items() if name not in self.own}
        main = next((name for name in together if name in plain), None)
        if main is None:
            raise ValueError('optim_wrapper.networks: leave one whole segmentor to the main '
                             'optimizer')
        # small parts hang on the first segmentor, further segmentors bring groups of their own
        extra = {name: net for name, net in together.items() if name not in plain}
        wrapper = self._build(_with(plain[main], extra), self.wrapper, self.paramwise)
        for name, net in together.items():
            if name in plain and name != main:
                more = self._build(_with(torch.nn.Module(), {name: net}) if not self._by_layer
                                   else net, self.wrapper, self.paramwise)
                for group in more.optimizer.param_groups:
                    wrapper.optimizer.add_param_group(group)
        if self.own:
            optimizers = {'main': wrapper.optimizer}
            for name, cfg in self.own.items():
                found = self._build(_with(torch.nn.Module(), {name: trained[name]}),
                                    {'type': 'OptimWrapper', 'optimizer': cfg['optimizer']},
                                    dict(cfg.get('paramwise_cfg') or {}))
                optimizers[name] = found.optimizer
            wrapper.optimizer = SeveralOptimizers(optimizers)
        return wrapper

    @property
    def _by_layer(self) -> bool:
        """Whether the constructor looks at a model's layers: it then needs the segmentor itself."""
        return 'constructor' in self.paramwise

    def _build(self, model, wrapper: dict, paramwise: dict) -> OptimWrapper:
        paramwise = dict(paramwise)
        kind = paramwise.pop('constructor', 'DefaultOptimWrapperConstructor')
        return OPTIM_WRAPPER_CONSTRUCTORS.build(dict(
            type=kind, optim_wrapper_cfg=copy.deepcopy(wrapper),
            paramwise_cfg=paramwise or None))(model)


def _with(model: torch.nn.Module, more: dict) -> torch.nn.Module:
    """A model with more children; shallow: the same parameters, one more name."""
    out = copy.copy(model)
    out._modules = {**model._modules, **more}
    return out


class SeveralOptimizers(torch.optim.Optimizer):
    """Optimisers of disjoint parameters that step together, as one torch optimiser.

    One backward pass, one verdict, one step: loss scaling, clipping, accumulation, schedules, the
    finite guard and checkpoints see a single optimiser, so that none of them has to know that there
    are several (our choice; mmengine's OptimWrapperDict would ask each of them to). Schedules
    multiply all rates alike.

    Args:
        optimizers: by name, at least one.
    """

    def __init__(self, optimizers: dict[str, torch.optim.Optimizer]):
        self.optimizers = dict(optimizers)
        groups = [group for one in optimizers.values() for group in one.param_groups]
        super().__init__([dict(params=list(group['params'])) for group in groups], {})
        self.param_groups = groups  # the very same dicts: schedules change rates in them

    @property
    def state(self):
        """Of all parameters, for those who look (writes go to the optimisers' own)."""
        return {p: s for one in self.optimizers.values() for p, s in one.state.items()}

    @state.setter
    def state(self, value):  # torch's constructor sets an empty one
        pass

    @torch.no_grad()
    def step(self, closure=None):
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for one in self.optimizers.values():
            one.step()
        return loss

    def state_dict(self) -> dict:
        return {name: one.state_dict() for name, one in self.optimizers.items()}

    def load_state_dict(self, state_dict: dict) -> None:
        """Raises ValueError if the saved optimisers are others."""
        if set(state_dict) != set(self.optimizers):
            raise ValueError(f'the checkpoint holds optimisers of {", ".join(state_dict)}, this '
                             f'run has {", ".join(self.optimizers)}')
        for name, one in self.optimizers.items():
            one.load_state_dict(state_dict[name])
        self.param_groups = [g for one in self.optimizers.values() for g in one.param_groups]

    def add_param_group(self, param_group: dict) -> None:
        self.param_groups.append(param_group)
