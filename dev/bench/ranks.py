"""Time of a step against the number of processes (gloo, a thread each), with a tiny network.

``torchrun ranks.py ROUNDS SIZE`` is what runs on every rank.
"""
from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RANKS, IMAGES = (1, 2), 2  # of each kind on each rank


def run(rounds: int, size: int = 128, ranks=RANKS, say=print) -> list[dict]:
    """Rows ``dict(ranks, images, size, seconds)``; each rank has the same number of images.

    Raises:
        RuntimeError: a rank failed; holds the output of all.
    """
    rows = []
    for number in ranks:
        say(f'ranks: {number}')
        done = subprocess.run(
            [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node',
             str(number), __file__, str(rounds), str(size)],
            text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=600)
        lines = [line for line in done.stdout.splitlines() if line.startswith('RESULT ')]
        if done.returncode or not lines:
            raise RuntimeError(f'{number} ranks failed:\n{done.stdout[-4000:]}')
        rows.append(dict(ranks=number, size=size, images=2 * IMAGES * number,
                         seconds=json.loads(lines[-1][len('RESULT '):])))
    return rows


def job(rounds: int, size: int) -> float:
    """Median seconds of a step on this rank; a barrier before each keeps the ranks together."""
    sys.path[:0] = [str(ROOT), str(ROOT / 'tests')]
    from mmseg_esl import stack
    stack.install()
    stack.start_gloo('pytorch', timeout=120)
    import tiny
    import torch
    from mmengine.dist import barrier, get_rank
    from mmengine.model import MMDistributedDataParallel

    torch.set_num_threads(1)
    model = tiny.esl(sharp=1.0, confidence=0.5, queue=256)
    ddp = MMDistributedDataParallel(model, device_ids=None, broadcast_buffers=False)
    optimizer = torch.optim.SGD(model.main.parameters(), 1e-4)
    inputs, samples = tiny.batch(IMAGES, IMAGES, seed=get_rank(), size=size)
    times = []
    for step in range(rounds + 2):
        barrier()
        start = time.perf_counter()
        loss, _ = model.parse_losses(ddp(inputs, samples, mode='loss'))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        model.after_optimizer_step(step)
        barrier()
        times.append(time.perf_counter() - start)
    return statistics.median(times[2:])


if __name__ == '__main__':
    spent = job(int(sys.argv[1]), int(sys.argv[2]))
    if os.environ['RANK'] == '0':
        print('RESULT', json.dumps(spent), flush=True)
