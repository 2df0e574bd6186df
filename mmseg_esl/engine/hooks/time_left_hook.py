"""The time that a training has left, as its log says it."""
from __future__ import annotations

import statistics
import time
from collections import deque

from mmengine.hooks import Hook

RECENT = 50  # iterations whose median time counts


class TimeLeftHook(Hook):
    """``eta`` of the training lines: the iterations that are left, and the validations.

    mmengine's IterTimerHook takes the mean of all iterations and forgets validations. But a method
    takes longer once unlabelled images count, its first iteration may have clustered features, and
    it validates each of its networks. A validation counts once there was one, as long as that took.
    """
    priority = 'NORMAL'  # as IterTimerHook, and registered after it

    def before_train(self, runner) -> None:
        self.recent, self.validation = deque(maxlen=RECENT), 0.0

    def before_val(self, runner) -> None:
        self.began = time.time()

    def after_val(self, runner) -> None:
        self.validation = time.time() - self.began

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        self.recent.append(runner.message_hub.get_scalar('train/time').current())
        left = (runner.max_iters - runner.iter - 1) * statistics.median(self.recent)
        runner.message_hub.update_info('eta', left + self.validation * validations_left(runner))


def validations_left(runner) -> int:
    """Validations after the current iteration, a last one at the end included."""
    if runner.val_loop is None:
        return 0
    loop, last = runner.train_loop, runner.max_iters
    done = max(runner.iter, loop.val_begin - 1)
    return last // loop.val_interval - done // loop.val_interval + bool(last % loop.val_interval)
