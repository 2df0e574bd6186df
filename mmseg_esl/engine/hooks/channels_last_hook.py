"""Networks in the memory format that convolutions on recent GPUs want."""
from __future__ import annotations

import torch
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmseg.registry import HOOKS
from torch import nn

from ..unwrap import networks_of, unwrap


@HOOKS.register_module()
class ChannelsLastHook(Hook):
    """Train with channels-last (NHWC) networks.

    Every network of the method is converted before the first step, momenta of a resumed
    optimiser with them; prototypes and queues stay as they are. Images need no conversion: a
    convolution whose weight is channels-last gives channels-last features. Shapes, names and
    checkpoints are the same, and numbers agree within rounding. Not the paper's.
    """
    priority = 'VERY_HIGH'  # before anything remembers a parameter's layout

    def before_train(self, runner) -> None:
        model = unwrap(runner.model)
        use_channels_last(model)
        if is_model_wrapper(runner.model):
            # DistributedDataParallel laid its buckets out for the old strides: it would mix the
            # first iteration's gradients up
            runner.model = runner.wrap_model(runner.cfg.get('model_wrapper_cfg'), model)
        optimizer = runner.optim_wrapper.optimizer
        for state in optimizer.state.values():
            for key, value in state.items():
                if torch.is_tensor(value) and value.dim() == 4:
                    state[key] = value.contiguous(memory_format=torch.channels_last)


def use_channels_last(model: nn.Module) -> None:
    """Convert a model's networks in place; parameters stay the objects that they are."""
    for network in networks_of(model).values():
        network.to(memory_format=torch.channels_last)
