"""Stand in for the demo's trainings: what its processes do when it fails or is ended.

``python tests/integration/demo_jobs.py`` starts two and waits; each says that it has begun.
"""
from __future__ import annotations

import multiprocessing
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
from mmseg_esl.processes import end_with_parent, ended_with_us


def begin(queue=None) -> None:
    end_with_parent()
    begin.queue = queue


def train(method: str, cfg, title: str):
    print('begun', flush=True)
    if method == 'fails':
        raise ValueError('no such thing')
    if method == 'ends':
        begin.queue.put((title, 30, 40, 0.5))
        return dict(cfg=cfg), 2.0
    time.sleep(600)


if __name__ == '__main__':
    with ProcessPoolExecutor(2, multiprocessing.get_context('spawn'), begin) as pool, \
            ended_with_us():
        for _ in range(2):
            pool.submit(train, 'lasts', None, '')
        time.sleep(600)
