"""What a checkpoint of mmengine's leaves out, so that a resumed run goes on exactly."""
from __future__ import annotations

import torch
from mmengine.dist import all_gather_object, get_rank, get_world_size
from mmengine.hooks import CheckpointHook, EarlyStoppingHook, Hook
from mmengine.runner import IterBasedTrainLoop
from mmseg.registry import HOOKS

from ..loops.train_loop import SemiTrainLoop
from ..rng import rng_state, seed_all, set_rng_state
from ..unwrap import unwrap
from .completeness import missing_parts
from .fingerprint import compare, fingerprint

REMEDY = ('Set these back to go on with the run. To begin another run from the saved weights, give '
          'the checkpoint as load_from and leave resume out. To go on all the same, no longer '
          "exactly, set strict=False of RunStateHook")

COUNTED = ('best_score', 'wait_count')  # by mmengine's EarlyStoppingHook

INCOMPLETE = ('Resume from a whole one. To begin another run from its weights, give it as '
              'load_from and leave resume out. To go on all the same, with what is missing begun '
              'anew, set strict=False of RunStateHook')


@HOOKS.register_module()
class RunStateHook(Hook):
    """Save and restore random states and the position in the data; refuse to resume another run.

    ``checkpoint['run_state']`` holds, beside what mmengine saves: the generators' states of each
    rank, seed and samples consumed of each stream, diagnostics not logged yet, what mmengine's
    EarlyStoppingHook has counted, and a fingerprint of the run. It is collected on all ranks before
    a CheckpointHook of any kind saves, and restored when a run is resumed (not with ``load_from``
    alone). A resumed run is then the uninterrupted one, bit for bit: on CPUs always, on GPUs with
    ``randomness.deterministic=True``. Validation leaves the generators as it finds them.
    All of this is our choice.

    Another world size with as many images a step goes on with the same images; the random numbers
    of the ranks then start anew. A longer or shorter ``max_iters``, another device or torch are
    mentioned in the log. Folders, loader workers, logging and validation may change freely.

    Args:
        strict: False turns refusals into warnings.

    Raises:
        RuntimeError: resuming with another world size (and other images a step), seed, list of
            images, classes, model or training config; within a window of gradient accumulation,
            whose gradients are lost; or from a checkpoint without optimiser, schedulers or a
            tensor of the model, such as a memory.
        ValueError: checkpoints would be saved within windows of gradient accumulation.
    """
    priority = 'LOW'  # after all who draw, before CheckpointHook (VERY_LOW)

    def __init__(self, strict: bool = True):
        self.strict = strict
        self._resumed = None  # run state of the checkpoint, until the first iteration
        self._state = None  # run state for the next checkpoint
        self._fingerprint = None
        self._aside = None  # random state while validating

    # ------------------------------------------------------------------------------- resuming

    def after_load_checkpoint(self, runner, checkpoint) -> None:
        if not (runner._resume and isinstance(runner._train_loop, IterBasedTrainLoop)):
            return
        _counts_on_the_cpu(checkpoint.get('optimizer') or {})
        state = checkpoint.get('run_state')
        if state is None:
            self._refuse_incomplete(runner, checkpoint)
            runner.logger.warning(
                'the checkpoint holds no run state (no RunStateHook saved it): whether this is the '
                'same run is not checked, and random numbers begin anew')
            return
        now = fingerprint(runner)
        fatal, mentioned = compare(state['fingerprint'], now)
        seed = runner._randomness_cfg.get('seed')
        if seed is not None and seed != state['seed']:
            fatal.append(f"randomness.seed: {state['seed']} -> {seed}")
        if state['iteration'] % _window(runner):
            fatal.append(f"gradients of the window of {_window(runner)} that iteration "
                         f"{state['iteration']} lies in (accumulative_counts): not saved -> lost. "
                         'Resume from a checkpoint at a multiple')
        for line in mentioned:
            runner.logger.info(f'resuming with a change: {line}')
        if any(line.startswith('train_cfg.max_iters') for line in mentioned):
            runner.logger.info('its schedules (param_scheduler) stay as they were saved')
        if runner.max_iters <= state['iteration']:
            runner.logger.warning(f"nothing is left to train: iteration {state['iteration']} is "
                                  f'done and train_cfg.max_iters={runner.max_iters}')
        if fatal:
            self._complain(runner, 'This is not the run that the checkpoint holds:\n'
                           + '\n'.join(f'  {line}' for line in fatal[:12])
                           + (f'\n  and {len(fatal) - 12} more' if len(fatal) > 12 else '')
                           + f'\n{REMEDY}')
        self._refuse_incomplete(runner, checkpoint)  # another run's tensors have other shapes
        self._resumed = state

    def _refuse_incomplete(self, runner, checkpoint) -> None:
        missing = missing_parts(runner, checkpoint)
        if missing:
            self._complain(runner, 'The checkpoint does not hold all that the run goes on from:\n'
                           + '\n'.join(f'  {line}' for line in missing) + f'\n{INCOMPLETE}')

    def _complain(self, runner, message: str, kind: type = RuntimeError) -> None:
        if self.strict:
            raise kind(message)
        runner.logger.warning(message)

    def before_train(self, runner) -> None:
        self._fingerprint = fingerprint(runner)
        window = _window(runner)
        for hook in _checkpoint_hooks(runner):
            if hook.interval > 0 and hook.interval % window:
                self._complain(
                    runner, f'CheckpointHook.interval={hook.interval} is no multiple of '
                    f'optim_wrapper.accumulative_counts={window}: such a checkpoint lacks the '
                    f'gradients gathered so far. Set a multiple of {window}, or strict=False of '
                    'RunStateHook', ValueError)
        if self._resumed is None:
            return
        for hook, counted in zip(_stopping(runner), self._resumed.get('stopping', ())):
            for name in COUNTED:
                setattr(hook, name, counted[name])
        loop, sampler = runner.train_loop, runner.train_dataloader.batch_sampler
        if self._resumed['streams'] is not None and hasattr(sampler, 'load_state_dict'):
            sampler.load_state_dict(self._resumed['streams'])
        if isinstance(loop, SemiTrainLoop):
            loop.validate_first = not self._resumed['validated']
        else:  # its iterator may have drawn already
            loop.dataloader_iterator = type(loop.dataloader_iterator)(loop.dataloader)

    def _restore(self, runner) -> None:
        """Random states and diagnostics of this rank, if the run was resumed."""
        state, rank = self._resumed, get_rank()
        if state is None:
            return
        if len(state['ranks']) != get_world_size():
            runner.logger.info(f"saved by {len(state['ranks'])} processes, resumed by "
                               f'{get_world_size()}: random numbers begin anew')
            seed_all(int(state['seed']), int(state['iteration']), rank)
            return
        mine, model = state['ranks'][rank], unwrap(runner.model)
        set_rng_state(mine['rng'])
        if hasattr(model, 'diagnostics'):
            model.diagnostics.load_state_dict(mine['diagnostics'], next(model.parameters()).device)

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        self._restore(runner)
        self._resumed = None

    # --------------------------------------------------------------------------------- saving

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        self._state = None
        if any(_saves_now(hook, runner) for hook in _checkpoint_hooks(runner)):
            self._state = self._collect(runner, runner.iter + 1)

    def before_val(self, runner) -> None:
        if self._fingerprint is not None:  # training; a best checkpoint may follow
            self._restore(runner)
            self._aside = rng_state()
            self._state = self._collect(runner, runner.iter, validated=True)

    def after_val(self, runner) -> None:
        if self._aside is not None:
            set_rng_state(self._aside)
            self._aside = None

    def before_save_checkpoint(self, runner, checkpoint) -> None:
        iteration = checkpoint['meta']['iter']
        if self._fingerprint is None or 'run_state' in checkpoint:
            return
        if self._state is None and get_world_size() == 1:
            self._state = self._collect(runner, iteration)
        if self._state is None or self._state['iteration'] != iteration:
            runner.logger.warning(
                'a checkpoint is saved without run state, and cannot be resumed exactly: its saver '
                'should call mmseg_esl.engine.resume.run_state.collect(runner) on all ranks before')
            return
        checkpoint['run_state'] = self._state

    def _collect(self, runner, iteration: int, validated: bool = False) -> dict:
        sampler, model = runner.train_dataloader.batch_sampler, unwrap(runner.model)
        mine = dict(rng=self._aside or rng_state())
        if hasattr(model, 'diagnostics'):
            mine['diagnostics'] = model.diagnostics.state_dict()
        stopping = [{name: float(getattr(hook, name)) for name in COUNTED}  # numpy's, as a rule
                    for hook in _stopping(runner)]
        streams = sampler.state_dict(iteration) if hasattr(sampler, 'state_dict') else None
        return dict(iteration=iteration, validated=validated, seed=runner.seed, streams=streams,
                    stopping=stopping, fingerprint=self._fingerprint, ranks=all_gather_object(mine))


def _stopping(runner) -> list:
    return [hook for hook in runner.hooks if isinstance(hook, EarlyStoppingHook)]


def collect(runner) -> dict | None:
    """The run state of the iteration that just ended (None without RunStateHook); on all ranks.

    For those who save when no CheckpointHook is due. The next checkpoint then contains it, too.
    """
    for hook in runner.hooks:
        if isinstance(hook, RunStateHook):
            if hook._state is None:
                hook._state = hook._collect(runner, runner.iter + 1)
            return hook._state
    return None


def _checkpoint_hooks(runner) -> list:
    return [hook for hook in runner.hooks
            if isinstance(hook, CheckpointHook) and not hook.by_epoch]


def _saves_now(hook, runner) -> bool:
    return (hook.every_n_train_iters(runner, hook.interval, hook.save_begin)
            or (hook.save_last and hook.is_last_train_iter(runner)))


def _window(runner) -> int:
    """Iterations in one step of the optimiser."""
    return getattr(runner.optim_wrapper, '_accumulative_counts', 1)


def _counts_on_the_cpu(optimizer: dict) -> None:
    """Where an optimiser has them, in place. mmengine loads a checkpoint onto the GPU; Adam would
    read its count of steps from there, and wait, once for each tensor of the network."""
    for key, value in optimizer.items():
        if isinstance(value, dict):
            _counts_on_the_cpu(value)
        elif key == 'step' and isinstance(value, torch.Tensor):
            optimizer[key] = value.cpu()
