"""Tell the model the time, and whether the optimiser has really stepped."""
from __future__ import annotations

import torch
from mmengine.dist import get_rank
from mmengine.hooks import EMAHook, Hook
from mmengine.logging import print_log
from mmengine.model import MMSeparateDistributedDataParallel, is_model_wrapper
from mmengine.optim import OptimWrapperDict
from mmengine.runner import EpochBasedTrainLoop
from mmseg.registry import HOOKS
from torch.nn.parallel import DistributedDataParallel

from ...datasets.wrapped import leaves
from ...models.segmentors import trained_heads
from ...semi import SemiSegmentor
from ...semi.roles import first_average, to_meta
from ..classes import REMEDY, class_mismatch
from ..unwrap import unwrap


@HOOKS.register_module()
class StepHook(Hook):
    """Clock, seed and verdict of each step, for every method.

    Before an iteration the model learns its number, for warm-up and ramp. After each step of the
    optimiser that really happened, averages move and staged memory is committed; it listens to the
    optimiser itself, so gradient accumulation and steps that the AMP scaler or FiniteGuardHook
    refuses are none. After a refused step what was staged is taken back. Checkpoints say which
    networks they hold, in ``meta['networks']``.

    Raises:
        ValueError: a decode head for another number of classes than the data set has;
            mmengine's EMAHook in the same run, two hooks of this kind, mmengine's
            OptimWrapperDict, or a train loop that counts epochs (the two endless streams of images
            have none); a model wrapper other than DistributedDataParallel.
    """
    priority = 'NORMAL'

    def before_run(self, runner) -> None:
        # before weights are initialised, which fails on shards, and before a checkpoint is loaded
        wrapper = type(runner.model)
        if is_model_wrapper(runner.model) and (not issubclass(wrapper, DistributedDataParallel)
                                               or wrapper is MMSeparateDistributedDataParallel):
            raise ValueError(
                f"model_wrapper_cfg: {wrapper.__name__} cannot train a method: an average follows "
                'its network tensor by tensor, and of shards each rank has other pieces of the '
                "two. Set model_wrapper_cfg=dict(type='MMDistributedDataParallel'), or leave it "
                'out; to save memory take --amp bf16, with_cp=True of the backbone, fewer images '
                'a GPU (docs/scaling.md)')
        model = unwrap(runner.model)
        if isinstance(model, SemiSegmentor):  # test-time augmentation stands around it in a test
            model.register_load_state_dict_post_hook(_start_anew)

    def before_train(self, runner) -> None:
        if any(isinstance(hook, EMAHook) for hook in runner.hooks):
            raise ValueError('EMAHook swaps the weights that the averages follow: remove it from '
                             'custom_hooks; a method with a teacher has the average already')
        if sum(isinstance(hook, StepHook) for hook in runner.hooks) > 1:
            raise ValueError('two StepHooks (TeacherEMAHook is its old name) would move the '
                             'averages twice a step: remove one of them from the hooks')
        if isinstance(runner.train_loop, EpochBasedTrainLoop):
            raise ValueError('an epoch of two endless streams of images never ends: set '
                             "train_cfg=dict(type='SemiTrainLoop', max_iters=..., "
                             'val_interval=...) and by_epoch=False in schedules and hooks')
        if isinstance(runner.optim_wrapper, OptimWrapperDict):
            raise ValueError('several optim_wrappers would step one after the other: name the '
                             'network that wants an optimizer of its own in optim_wrapper=dict('
                             'optimizer=..., networks=dict(NAME=dict(optimizer=...)))')
        model = unwrap(runner.model)
        odd = class_mismatch(runner.train_dataloader.dataset, {
            name: getattr(head, 'num_classes', None)
            for name, head in trained_heads(model.main).items()})
        if odd:
            raise ValueError(f'{odd}. To mend it, {REMEDY}')
        model.driven = True
        model.seed, model.max_iters = runner.seed or 0, runner.max_iters
        labeled = getattr(runner.train_dataloader.dataset, 'labeled', None)
        model.labeled_images = 0 if labeled is None else sum(map(len, leaves(labeled)))
        # mmengine seeds all ranks alike: they would cut the same boxes and drop the same channels
        torch.manual_seed(torch.initial_seed() + get_rank())
        steps = int(model.ema_steps)  # the one wait for the device, before the first step

        def follow(*_):
            nonlocal steps
            if model.step_refused:  # FiniteGuardHook took the gradients away: nothing has moved
                return
            used = model.after_optimizer_step(steps)
            if used is not None:
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

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        model = unwrap(runner.model)
        predicts = model.semi_test_cfg['predict_on']  # may be several together, as in PS-MT
        checkpoint['meta']['networks'] = to_meta(
            model.roles, predicts if predicts in model.roles else first_average(model.roles))

    def after_train(self, runner) -> None:
        self._handle.remove()


def _start_anew(model, keys) -> None:
    """Counters and memories that a checkpoint has not begin: mmengine would call that a mismatch.

    A run that is resumed is refused without them, see engine.resume.completeness.
    """
    own = [key for key in keys.missing_keys if key.partition('.')[0] not in model.named(plain=True)]
    if own:
        keys.missing_keys[:] = [key for key in keys.missing_keys if key not in own]
        names = dict.fromkeys(key.partition('.')[0] for key in own)
        print_log(f'not in the checkpoint, so begun anew: {", ".join(names)}', 'current')


@HOOKS.register_module()
class TeacherEMAHook(StepHook):
    """The name that StepHook had in release 0.1.0; configs that use it go on working.

    Args:
        momentum: now ``semi_train_cfg.ema_momentum``, which it sets.

    Raises:
        ValueError: momentum outside [0, 1].
    """

    def __init__(self, momentum: float = 0.99):
        if not 0 <= momentum <= 1:
            raise ValueError(f'TeacherEMAHook.momentum must be in [0, 1], got {momentum}')
        self.momentum = momentum

    def before_run(self, runner) -> None:  # before a checkpoint's settings are compared
        super().before_run(runner)
        print_log("TeacherEMAHook is now StepHook: write dict(type='StepHook') and "
                  f'semi_train_cfg=dict(ema_momentum={self.momentum}). It works as it did',
                  'current')
        model = unwrap(runner.model)
        if isinstance(model, SemiSegmentor):  # test-time augmentation stands around it in a test
            model.cfg.ema_momentum = self.momentum
