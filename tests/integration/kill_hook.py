"""A hook that ends its own process; in configs: ``kill_hook.KillHook``."""
import os
import signal

from mmengine.dist import get_rank
from mmengine.hooks import Hook


class KillHook(Hook):
    """Send a signal to this process before an iteration, in the first attempt of torchrun.

    Args:
        at: iterations that are done by then.
        rank: which process.
        number: the signal.
    """

    def __init__(self, at, rank=0, number=int(signal.SIGKILL)):
        self.at, self.rank, self.number = at, rank, number

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        first = os.environ.get('TORCHELASTIC_RESTART_COUNT', '0') == '0'
        if first and runner.iter == self.at and get_rank() == self.rank:
            os.kill(os.getpid(), self.number)
