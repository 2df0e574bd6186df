"""Drive the EMA teacher from the optimiser's real steps."""
from __future__ import annotations

import torch
from mmengine.dist import get_rank
from mmengine.hooks import EMAHook, Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import EpochBasedTrainLoop
from mmseg.registry import HOOKS


def unwrap(model):
    """The wrapper inside DistributedDataParallel, or the model itself."""
    return model.module if is_model_wrapper(model) else model


@HOOKS.register_module()
class TeacherEMAHook(Hook):
    """Update the teacher after each optimiser step that really happened.

    It listens to the optimiser itself: gradient accumulation and steps that the AMP scaler skips
    are then no updates. It also tells the model the iteration, for warm-up and ramp.

    Args:
        momentum: upper bound of min(1 - 1/(t + 1), momentum), t the updates so far (our choice,
            as in U2PL; 0.996 and 0.999 are common too).

    Raises:
        ValueError: momentum outside [0, 1], mmengine's EMAHook in the same run, or a train loop
            that counts epochs (the two endless streams of images have none).
    """
    priority = 'NORMAL'

    def __init__(self, momentum: float = 0.99):
        if not 0 <= momentum <= 1:
            raise ValueError(f'TeacherEMAHook.momentum must be in [0, 1], got {momentum}')
        self.momentum = momentum

    def before_train(self, runner) -> None:
        if any(isinstance(hook, EMAHook) for hook in runner.hooks):
            raise ValueError('EMAHook swaps the weights that the teacher follows: remove it from '
                             'custom_hooks, the teacher is the average already')
        if isinstance(runner.train_loop, EpochBasedTrainLoop):
            raise ValueError('an epoch of two endless streams of images never ends: set '
                             "train_cfg=dict(type='SemiTrainLoop', max_iters=..., "
                             'val_interval=...) and by_epoch=False in schedules and hooks')
        model = unwrap(runner.model)
        model.driven = True
        model.seed = runner.seed or 0
        # mmengine seeds all ranks alike: they would cut the same boxes and drop the same channels
        torch.manual_seed(torch.initial_seed() + get_rank())
        steps = int(model.ema_steps)  # the one wait for the device, before the first step

        def follow(*_):
            nonlocal steps
            if model.step_refused:  # FiniteGuardHook took the gradients away: nothing has moved
                return
            used = model.after_optimizer_step(steps, self.momentum)
            runner.message_hub.update_scalar('train/ema_momentum', used)
            steps += 1
            self._stepped = True

        self._handle = runner.optim_wrapper.optimizer.register_step_post_hook(follow)

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        unwrap(runner.model).iter = runner.iter
        self._stepped = False

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        if runner.optim_wrapper.should_update() and not self._stepped:
            unwrap(runner.model).after_skipped_step()

    def after_train(self, runner) -> None:
        self._handle.remove()
