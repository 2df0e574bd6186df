"""Checkpoints that survive a crash at any moment, and resuming from them."""
from __future__ import annotations

import os
import shutil
from functools import partial
from pathlib import Path

from mmengine.dist import get_world_size, is_main_process
from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import CheckpointHook
from mmengine.runner import find_latest_checkpoint
from mmengine.runner.base_loop import BaseLoop
from mmseg.registry import HOOKS

from ...functional.phases import phase
from ...storage.atomic import atomic_file, remove_leftovers
from ...storage.lock import FolderLock
from ...storage.portable import nonfinite_tensors, pack_histories, portable, unpack_histories
from ...storage.resumable import POINTER, drop_foreign_names, newest_readable
from ..finite import infinite_by_design
from ..interrupt import Interrupt, shield_workers
from ..ranks import on_main
from ..resume.run_state import RunStateHook, collect
from ..unwrap import unwrap

_SUPERSEDED = 'superseded_ckpts'


class AtomicBackend(LocalBackend):
    """mmengine's local file backend, but a file is there completely or not at all."""

    def put(self, obj: bytes, filepath) -> None:
        with atomic_file(filepath) as file:
            file.write(obj)

    def put_text(self, obj: str, filepath, encoding: str = 'utf-8') -> None:
        self.put(obj.encode(encoding), filepath)


class _RemovingLater(AtomicBackend):
    """Collects what mmengine would remove before it saves the successor."""

    def __init__(self, superseded: list):
        self.superseded = superseded

    def remove(self, filepath) -> None:
        self.superseded.append(str(filepath))


register_backend('atomic', AtomicBackend)


@HOOKS.register_module()
class SemiCheckpointHook(CheckpointHook):
    """mmengine's CheckpointHook with the arguments it has, made safe.

    * A checkpoint is written beside its name, synchronised and renamed, the pointer
      ``last_checkpoint`` (relative to the work folder) likewise; old ones go last. So there is room
      needed for one checkpoint more than ``max_keep_ckpts``.
    * ``resume=True`` without ``load_from`` takes the newest checkpoint that is whole and says so
      if that is not the newest; with none there, training starts at the beginning.
    * It loads with ``torch.load(weights_only=True)``, without any allow-list.
    * A second training in the same work folder is refused, by host and process; a lock that a dead
      process left blocks nobody (see storage.lock).
    * Ctrl-C and SIGTERM finish the iteration, save, and exit with 128 + signal, on all ranks. In a
      validation they exit at once if its iteration is saved and a resumed run would validate first
      (several ranks before the next network), else after it, which the log says.
    * An error leaves the checkpoints there are as they are.

    With ``backend_args``, ``file_client_args`` or an ``out_dir`` on a remote store, writing,
    finding and removing are left to mmengine. All of this is our choice; the paper is silent.

    Args:
        may_be_infinite: parts of the names of tensors that hold infinities by design and did not
            before the first step (see mmseg_esl.engine.finite).
        kwargs: mmengine's; see its CheckpointHook.

    Raises:
        FloatingPointError: a tensor of the checkpoint holds a NaN or an infinity.
        OSError: the file system refuses, such as a full disk.
        TypeError: something in the checkpoint would not load safely.
        RuntimeError: resuming, and no checkpoint in the folder can be read; or another process
            trains in the work folder.
    """

    def __init__(self, *args, may_be_infinite=(), **kwargs):
        super().__init__(*args, **kwargs)
        self.may_be_infinite = tuple(may_be_infinite)
        self._ours = (self.backend_args is None and self.file_client_args is None
                      and '://' not in str(self.out_dir or ''))
        if self._ours:
            self.backend_args = dict(backend='atomic')
        self._superseded, self._by_design = [], set()
        self._locks: list[FolderLock] = []
        self._interrupt = self._run_state = self._saved = self._saved_step = None
        self._told = False

    # ------------------------------------------------------------------------------- resuming

    def before_run(self, runner) -> None:
        """Choose the file to resume from: mmengine asks for it right after this."""
        unwrap(runner.model).may_be_infinite = self.may_be_infinite  # what is loaded is checked
        self._release_after(runner._train_loop)
        if os.environ.get('TORCHELASTIC_MAX_RESTARTS', '0') != '0' and not runner._resume:
            runner.logger.warning('torchrun may restart this run, which would then begin anew: add '
                                  '--resume (it starts a run where there is no checkpoint yet)')
        if not (self._ours and runner._resume and runner._load_from is None):
            return
        folder = runner.work_dir
        if self.out_dir not in (None, folder):  # as before_train will make it
            folder = os.path.join(self.out_dir, os.path.basename(folder.rstrip(os.sep)))
        found = on_main(newest_readable, folder, runner.work_dir, self.filename_tmpl,
                        runner.logger.warning)
        if found is None:
            runner.logger.info(f'no checkpoint in {folder} to resume from: starting anew')
        runner._resume, runner._load_from = found is not None, found

    def after_load_checkpoint(self, runner, checkpoint) -> None:
        if 'message_hub' in checkpoint:
            unpack_histories(checkpoint['message_hub'])
            if self._ours:
                drop_foreign_names(checkpoint['message_hub'].get('runtime_info', {}),
                                   self.filename_tmpl, runner.logger.warning)

    def before_train(self, runner) -> None:
        self._hold(runner.work_dir)
        super().before_train(runner)
        if self._ours and Path(self.out_dir).resolve() != Path(runner.work_dir).resolve():
            self._hold(self.out_dir)  # work folders of one name share it
        self._by_design = infinite_by_design(runner)
        # not ours: mmengine has looked for it, and told nobody
        resumed = runner._resume and (runner._load_from or find_latest_checkpoint(runner.work_dir))
        if resumed:  # else a new best one, before the next save, would be in no checkpoint
            self.last_ckpt = self._path(Path(resumed).name)
            self._saved_step = runner.iter
        if self._ours:
            self.file_backend = _RemovingLater(self._superseded)
            self._keep_to_folder(runner)
            if is_main_process():
                self._clean(runner)
        if not self.by_epoch:  # an epoch cannot be resumed in its middle
            self._interrupt = Interrupt()
            self._interrupt.listen()
            shield_workers()

    def _hold(self, folder) -> None:
        def take():
            Path(folder).mkdir(parents=True, exist_ok=True)
            lock.take()

        lock = FolderLock(folder)
        on_main(take)
        self._locks.append(lock)

    def _keep_to_folder(self, runner) -> None:
        """Look for the best checkpoints in this folder, wherever it was when they were saved."""
        for key, path in list(runner.message_hub.runtime_info.items()):
            if path and (key == 'last_ckpt' or key.startswith('best_ckpt')):
                runner.message_hub.update_info(key, self._path(Path(path).name))
        if self.save_best is not None and len(self.key_indicators) == 1:
            self.best_ckpt_path = runner.message_hub.runtime_info.get('best_ckpt')
        elif self.save_best is not None:
            self.best_ckpt_path_dict = {
                key: runner.message_hub.runtime_info.get(f'best_ckpt_{key}')
                for key in self.key_indicators}

    def _clean(self, runner) -> None:
        """Remove what a killed save left: its temporary file, and what it was to replace."""
        remove_leftovers(self.out_dir)
        remove_leftovers(runner.work_dir)
        resumed = runner._load_from if runner._resume else None
        if resumed and Path(resumed).resolve().parent == Path(self.out_dir).resolve():
            names = runner.message_hub.runtime_info.get(_SUPERSEDED, ())
            self._remove([self._path(name) for name in names], runner)

    def _path(self, name: str) -> str:
        return os.path.join(self.out_dir, name)

    # --------------------------------------------------------------------------------- saving

    def before_save_checkpoint(self, runner, checkpoint) -> None:
        """Make the checkpoint loadable without an allow-list; refuse values that are not finite."""
        hub = checkpoint['message_hub']
        pack_histories(hub)
        if self._superseded:
            hub['runtime_info'][_SUPERSEDED] = [os.path.basename(p) for p in self._superseded]
        if self._run_state is not None:
            checkpoint['run_state'] = self._run_state
        checkpoint.update(portable(checkpoint))
        bad = [where for where in nonfinite_tensors(checkpoint)
               if not any(f'[{name!r}]' in where for name in self._by_design)]
        if bad:
            raise FloatingPointError(
                f'{len(bad)} tensors hold NaN or infinity, first {bad[0]}: no checkpoint is '
                f'written, the last one stays ({self._saved or "none yet"}). Give it as load_from '
                'of a new run, without resume, with another learning rate, seed or precision; a '
                'tensor that holds infinities by design belongs into '
                'SemiCheckpointHook.may_be_infinite')

    @phase('checkpoint')
    def _save_checkpoint_with_step(self, runner, step, meta) -> None:
        """mmengine's, in another order: save, move the pointer, remove. On all ranks."""
        self._run_state = collect(runner)
        try:
            if self._ours:
                self._count(runner, step)
                on_main(self._store, runner, step, meta)
            else:
                self._sharing_errors(runner, super()._save_checkpoint_with_step, step, meta)
        finally:
            self._run_state = None
        self._superseded.clear()
        self._saved, self._saved_step = self.last_ckpt, step

    def _count(self, runner, step) -> None:
        """Note the checkpoint to come, and the one that it replaces."""
        if self.max_keep_ckpts > 0 and step not in self.keep_ckpt_ids:
            if len(self.keep_ckpt_ids) == self.max_keep_ckpts:
                oldest = self.keep_ckpt_ids.popleft()
                self.file_backend.remove(self._path(self.filename_tmpl.format(oldest)))
            self.keep_ckpt_ids.append(step)
            runner.message_hub.update_info('keep_ckpt_ids', list(self.keep_ckpt_ids))
        self.last_ckpt = self._path(self.filename_tmpl.format(step))
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)

    def _store(self, runner, step, meta) -> None:
        try:
            type(runner).save_checkpoint(  # which is another on the runner while saving the best
                runner, self.out_dir, self.filename_tmpl.format(step), meta=meta,
                save_optimizer=self.save_optimizer,
                save_param_scheduler=self.save_param_scheduler,
                backend_args=self.backend_args, **self.args)
            self.file_backend.put_text(os.path.relpath(self.last_ckpt, runner.work_dir),
                                       os.path.join(runner.work_dir, POINTER))
        except OSError as error:
            raise self._explained(error) from error
        self._remove(self._superseded, runner)

    def _remove(self, paths, runner) -> None:
        info = runner.message_hub.runtime_info
        kept = [path for key, path in info.items()
                if key == 'last_ckpt' or key.startswith('best_ckpt')]
        for path in paths:
            if path not in kept:  # the best one may have been saved under its old name
                Path(path).unlink(missing_ok=True)

    def _explained(self, error: OSError) -> OSError:
        free = ''
        if self._ours:
            free = f' ({shutil.disk_usage(self.out_dir).free / 2**20:.0f} MiB free)'
        return OSError(
            error.errno, f'no checkpoint could be written to {self.out_dir}: '
            f'{error.strerror}{free}. The ones before it are untouched (last: '
            f'{self._saved or "none in this run"}). Make room for one checkpoint more than are '
            'kept, or set a smaller max_keep_ckpts, and go on with --resume')

    def _save_best_checkpoint(self, runner, metrics) -> None:
        """mmengine's; the best one so far is removed when its successor is there."""
        self._sharing_errors(runner, super()._save_best_checkpoint, metrics)
        if is_main_process():
            self._remove(self._superseded, runner)
        self._superseded.clear()

    def _sharing_errors(self, runner, method, *args) -> None:
        """Call a method of mmengine's whose saves, if they fail, shall fail on all ranks."""
        if 'save_checkpoint' in vars(runner):  # the best one is being saved, and this with it
            return method(runner, *args)

        def save(*args, **kwargs):
            try:
                type(runner).save_checkpoint(runner, *args, **kwargs)
            except OSError as error:
                raise self._explained(error) from error

        runner.save_checkpoint = partial(on_main, save)
        try:
            method(runner, *args)
        finally:
            del runner.save_checkpoint

    # --------------------------------------------------------------------------- interruption

    def _release_after(self, loop) -> None:
        """Give signals and folder back however training ends: no hook is called after an error."""
        if not isinstance(loop, BaseLoop):  # only validating or testing
            return
        run = loop.run

        def run_and_release():
            try:
                return run()
            finally:
                if self._interrupt:
                    self._interrupt.release()
                while self._locks and is_main_process():
                    self._locks.pop().give_back()

        loop.run = run_and_release

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        super().after_train_iter(runner, batch_idx, data_batch, outputs)
        number = self._interrupt.asked() if self._interrupt else 0
        if not number:
            return
        if self._saved_step != runner.iter + 1:
            self._save_checkpoint(runner)
        runner.logger.warning(f'stopped after iteration {runner.iter + 1}, which is saved in '
                              f'{self.last_ckpt}: go on with --resume')
        raise SystemExit(128 + number)

    def before_val_iter(self, runner, batch_idx, data_batch=None) -> None:
        if batch_idx == 0:
            shield_workers()
        # ranks may have different numbers of batches, but begin a network together
        if self._interrupt and (batch_idx == 0 or get_world_size() == 1):
            self._end_validation(runner)

    def _end_validation(self, runner) -> None:
        number = self._interrupt.asked()
        if not number:
            return
        comes_again = hasattr(runner.train_loop, 'validate_first') and any(
            isinstance(hook, RunStateHook) for hook in runner.hooks)
        if comes_again and self._saved_step == runner.iter:
            runner.logger.warning(f'stopped in the validation of iteration {runner.iter}, which is '
                                  f'saved in {self.last_ckpt}: --resume validates first')
            raise SystemExit(128 + number)
        if not self._told:
            self._told = True
            runner.logger.warning(f'iteration {runner.iter} is not saved, or would not be validated'
                                  ' when resumed: the validation of all networks and one more '
                                  'iteration are finished first')
