"""Skip the steps that a non-finite value has spoilt, and leave nothing of them behind."""
from __future__ import annotations

import math

import torch
from mmengine.dist import all_gather_object, all_reduce, get_rank
from mmengine.hooks import Hook
from mmengine.logging import HistoryBuffer
from mmseg.registry import HOOKS

from ...functional.phases import phase
from ..finite import infinite_by_design, is_finite
from ..unwrap import unwrap

COUNTER = 'train/skipped_steps'


@HOOKS.register_module()
class FiniteGuardHook(Hook):
    """Keep NaN and infinity out of everything that outlives a step.

    Just before the optimiser would step, one flag is computed on the device: whether images,
    teacher logits, part features, loss terms, gradients and the batch-norm statistics of every
    network that gathers them are finite. It is reduced over the ranks and read, the one wait for
    the device in a step. If it is false on any rank, all ranks skip: gradients are taken away (no
    optimiser of torch then touches parameters, momenta or decay), buffers of those networks go back
    to what they were before the step, StepHook lets neither averages nor staged memory follow.
    Random numbers, learning rate schedule and iteration count go on, as does the growth of AMP's
    loss scale, whose own skips are treated alike.

    Under gradient accumulation one bad iteration spoils the whole step: all its iterations are
    dropped. Steps skipped so far are logged as ``skipped_steps``; a skipped step's non-finite
    losses are left out of the log's means. Nothing here is the paper's.

    Args:
        max_in_a_row: so many skipped steps in a row end the training (our choice).

    Raises:
        ValueError: max_in_a_row below 1; weights that training begins from are not finite.
        RuntimeError: max_in_a_row steps in a row were skipped, or a checkpoint would hold a
            non-finite value; says what was found where.
    """
    priority = 'ABOVE_NORMAL'  # before StepHook, and before anything is logged or saved

    def __init__(self, max_in_a_row: int = 10):
        if max_in_a_row < 1:
            raise ValueError(f'FiniteGuardHook.max_in_a_row must be at least 1, got {max_in_a_row}')
        self.max_in_a_row = max_in_a_row

    # ---- before a step ------------------------------------------------------------------------

    def before_train(self, runner) -> None:
        model = unwrap(runner.model)
        model.watch.on = True
        self._model, self._optimizer = model, runner.optim_wrapper.optimizer
        self._names = {id(p): name for name, p in model.named_parameters()}
        # masks, say: they are none of the statistics
        self._by_design = infinite_by_design(runner)
        self._check_weights(model)
        self._buffers = [(f'{name}.{n}', b) for name, net in model.gathering.items()
                         for n, b in net.named_buffers()]
        self._copies = [buffer.clone() for _, buffer in self._buffers]
        self._statistics = [(n, b) for n, b in self._buffers
                            if b.is_floating_point() and b.numel() and n not in self._by_design]
        history = runner.message_hub.log_scalars.get(COUNTER)
        self.skipped = int(history.current()) if history is not None else 0
        self._in_a_row, self._begins = 0, True
        self._handle = self._optimizer.register_step_pre_hook(self._judge)

    def _check_weights(self, model) -> None:
        """Else every step would be skipped, and an image be blamed."""
        bad = [name for name, tensor in [*model.named_parameters(), *model.named_buffers()]
               if name not in self._by_design and not is_finite(tensor)]
        if bad:
            raise ValueError(f'{bad[0]} and {len(bad) - 1} more tensors are not finite before the '
                             'first step: the file that they were loaded from (pretrained, '
                             'init_cfg, load_from) is of a training that diverged, take another')

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        if not self._begins:  # in the midst of an accumulated step
            return
        self._begins, self._allowed, self._found = False, False, []
        self._model.step_refused = False
        self._model.watch.clear()
        _copy(self._copies, [buffer for _, buffer in self._buffers])

    # ---- the verdict --------------------------------------------------------------------------

    @phase('finite check')
    @torch.no_grad()
    def _judge(self, *_) -> None:
        """Called by the optimiser before it steps."""
        grads = [(self._names.get(id(p), 'of a parameter outside the model'), p)
                 for group in self._optimizer.param_groups for p in group['params']
                 if p.grad is not None and p.grad.numel()]
        tensors = [b for _, b in self._statistics] + [p.grad for _, p in grads]
        largest = torch.stack(torch._foreach_norm(tensors, math.inf))  # NaN and inf come through
        fine = torch.cat([largest.isfinite(), *self._model.watch.verdicts()]).all().int()
        all_reduce(fine, op='min')
        self._allowed = bool(fine)
        if self._allowed:
            return
        # BN statistics first: they say more than gradients, of which one bad value spoils all
        names = [f'batch-norm statistic {n}' for n, _ in self._statistics]
        names += [f'gradient of {n}' for n, _ in grads]
        self._found = [n for n, ok in zip(names, largest.isfinite().tolist()) if not ok]
        self._model.step_refused = True
        for group in self._optimizer.param_groups:
            for p in group['params']:
                p.grad = None

    # ---- after it -----------------------------------------------------------------------------

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        _forget_non_finite(runner.message_hub)
        if not runner.optim_wrapper.should_update():
            return
        self._begins = True
        if self._allowed:
            self._in_a_row = 0
        else:  # refused by us, or by the AMP scaler, which does not even call the optimiser
            self._skip(runner)
        if self.skipped:
            runner.message_hub.update_scalar(COUNTER, self.skipped)

    def _skip(self, runner) -> None:
        _copy([buffer for _, buffer in self._buffers], self._copies)
        self.skipped += 1
        self._in_a_row += 1
        diagnosis = self._diagnosis(runner)
        runner.logger.warning(
            f'step skipped at iteration {runner.iter + 1} ({self._in_a_row} in a row, '
            f'{self.skipped} in all), everything is as before it. Not finite: {diagnosis}')
        if self._in_a_row >= self.max_in_a_row:
            raise RuntimeError(
                f'{self._in_a_row} steps in a row were not finite and have been skipped, the last '
                f'one at iteration {runner.iter + 1}. Not finite: {diagnosis}. Look at the first '
                'thing named: mend or remove that image; where no image is named lower the '
                'learning rate, clip gradients (optim_wrapper.clip_grad), or train in bfloat16 '
                'or float32: in a new run with the last checkpoint as load_from, since --resume '
                'refuses another setting. FiniteGuardHook(max_in_a_row=...) allows more.')

    def _diagnosis(self, runner) -> str:
        """The first things that were not finite, of all ranks; a collective."""
        # a step's own order: what comes first is the cause
        mine = self._model.watch.report() + self._found
        if not mine and not self._model.step_refused:
            mine = ['gradients under the loss scale of mixed precision']
        lines = [f'rank {rank}: {", ".join(found[:4])}'
                 + (f' and {len(found) - 4} more' if len(found) > 4 else '')
                 for rank, found in enumerate(all_gather_object(mine)) if found]
        return '; '.join(lines)

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        """The last line: parameters that overflowed in a step whose gradients were finite."""
        state, by_design = checkpoint['state_dict'], getattr(self, '_by_design', ())
        if not getattr(self, '_begins', True):  # an accumulated step that is yet to be judged
            for (name, buffer), copy in zip(self._buffers, self._copies):
                if name in state and not is_finite(buffer):
                    state[name] = copy.cpu()
        tensors = [(n, t) for n, t in state.items() if n not in by_design]
        tensors += list(_tensors(checkpoint.get('optimizer', {}), 'optimizer'))
        bad = [name for name, tensor in tensors if not is_finite(tensor)]
        if bad:
            raise RuntimeError(
                f'rank {get_rank()}: the checkpoint of iteration {runner.iter + 1} is not written, '
                f'since {bad[0]} and {len(bad) - 1} more tensors are not finite. Lower the '
                'learning rate or clip gradients in a new run that has the last checkpoint as '
                'load_from: --resume refuses another setting.')

    def after_train(self, runner) -> None:
        self._handle.remove()
        self._model.watch.on = False
        self._model.watch.clear()


def _tensors(tree, name: str):
    """(dotted name, tensor) of every tensor in nested dicts and lists."""
    if isinstance(tree, torch.Tensor):
        yield name, tree
    elif isinstance(tree, (dict, list, tuple)):
        items = tree.items() if isinstance(tree, dict) else enumerate(tree)
        for key, value in items:
            yield from _tensors(value, f'{name}.{key}')


@torch.no_grad()
def _copy(targets: list, sources: list) -> None:
    alike: dict = {}  # counts beside statistics
    for target, source in zip(targets, sources):
        alike.setdefault(target.dtype, []).append((target, source))
    for pairs in alike.values():
        if hasattr(torch, '_foreach_copy_'):  # since torch 2.1
            torch._foreach_copy_([t for t, _ in pairs], [s for _, s in pairs])
        else:
            for target, source in pairs:
                target.copy_(source)


def _forget_non_finite(hub) -> None:
    """Drop this iteration's non-finite values from the training log's buffers (on the host).

    The log's means would be spoilt for a whole window, and a checkpoint holds these buffers.
    """
    for key, history in list(hub.log_scalars.items()):
        values, counts = history.data
        if not key.startswith('train/') or math.isfinite(values[-1]):
            continue
        hub.log_scalars[key] = HistoryBuffer(values[:-1], counts[:-1], history.max_length)
        if len(values) == 1:  # an empty buffer has no mean
            del hub.log_scalars[key]
            hub._resumed_keys.pop(key, None)  # it has no public way out
