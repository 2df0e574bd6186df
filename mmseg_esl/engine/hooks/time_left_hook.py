"""The time that a training has left, as its log says it."""
from __future__ import annotations

import statistics
import time
from collections import deque

from mmengine.hooks import Hook

from ...semi import SemiSegmentor
from ..unwrap import unwrap

RECENT = 50  # iterations whose median time counts
TRAINED = 3  # forwards that a forward with its backward counts, as in ``passes``


class TimeLeftHook(Hook):
    """``eta`` of the training lines: the iterations that are left, and the validations.

    mmengine's IterTimerHook takes the mean of all iterations and forgets validations. But a method
    takes longer once unlabelled images count: in the warm-up the rest is estimated by the forwards
    that it will take, after it the iterations of the warm-up are forgotten. The first iteration may
    have clustered features, and each network is validated. A validation counts once there was one,
    as long as that took.
    """
    priority = 'NORMAL'  # as IterTimerHook, and registered after it

    def before_train(self, runner) -> None:
        self.recent, self.validation = deque(maxlen=RECENT), 0.0

    def before_val(self, runner) -> None:
        self.began = time.time()

    def after_val(self, runner) -> None:
        self.validation = time.time() - self.began

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        hub, model = runner.message_hub, unwrap(runner.model)
        warm_up = model.cfg.warmup_iters if isinstance(model, SemiSegmentor) else 0
        if runner.iter == warm_up:
            self.recent.clear()
        self.recent.append([hub.get_scalar(f'train/{key}').current()
                            for key in ('time', 'data_time')])
        now, waiting = map(statistics.median, zip(*self.recent))
        left = runner.max_iters - runner.iter - 1
        alike = min(left, warm_up - runner.iter - 1) if runner.iter < warm_up else left
        seconds = alike * now
        if left > alike:
            more = growth(model, *images(data_batch))
            seconds += (left - alike) * (waiting + (now - waiting) * more)
        hub.update_info('eta', seconds + self.validation * validations_left(runner))


def images(batch: dict) -> tuple[int, int]:
    """Numbers of labelled and of unlabelled images in a batch of the loader."""
    labeled = sum(sample.metainfo['labeled'] for sample in batch['data_samples'])
    return labeled, len(batch['data_samples']) - labeled


def growth(model, labeled: int, unlabeled: int) -> float:
    """How much longer a step is than one of the warm-up, by the encoder's forwards of both.

    Args:
        model: the method. labeled, unlabeled: images of a step.
    """
    passes = model.passes(model.cfg)
    if not unlabeled or not any(passes['unlabeled']):
        return 1.0
    alone = labeled + unlabeled * (labeled == 1)  # see SemiSegmentor.supervised
    warm_up = TRAINED * alone * len(model.warmed)
    return (labeled * passes['labeled'][0] + unlabeled * passes['unlabeled'][0]) / warm_up


def validations_left(runner) -> int:
    """Validations after the current iteration, a last one at the end included."""
    if runner.val_loop is None:
        return 0
    loop, last = runner.train_loop, runner.max_iters
    done = max(runner.iter, loop.val_begin - 1)
    return last // loop.val_interval - done // loop.val_interval + bool(last % loop.val_interval)
