"""Two ranks take one step of U2PL, then one of them takes it with all images: see test_u2pl."""
from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from mmengine.dist import all_gather, get_rank

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]

import every  # noqa: E402
import tiny  # noqa: E402

from mmseg_esl import stack  # noqa: E402


def model_of():
    """Whose batch norm does not look at the batch, and whose anchors are of equal number."""
    torch.manual_seed(0)
    return tiny.method('U2PL', every.pointwise(), sharp=1.0, num_anchors=400, num_negatives=50,
                       cutmix_prob=0.0).eval()


def take(model, images, samples):
    torch.manual_seed(1 + get_rank())
    losses = model.loss(images, samples)
    model.after_optimizer_step(0)
    return {k: float(v.detach()) for k, v in losses.items() if 'loss' in k}


def main() -> None:
    torch.set_num_threads(1)
    stack.start_gloo('pytorch', timeout=120)
    images, samples = tiny.batch(4, 4)
    rank, model = get_rank(), model_of()
    mine = [2 * rank, 2 * rank + 1, 4 + 2 * rank, 5 + 2 * rank]
    losses = take(model, images[mine], [samples[i] for i in mine])
    mean = {k: float(torch.stack(all_gather(torch.tensor(v))).mean()) for k, v in losses.items()}
    entropy = torch.rand(4, 6, 6, generator=torch.Generator().manual_seed(3))
    bounds = [float(x) for x in model._bounds(entropy[2 * rank:2 * rank + 2], 0.2)]
    model.cfg.global_average = False
    own = [float(x) for x in model._bounds(entropy[2 * rank:2 * rank + 2], 0.2)]
    one = [float(x) for x in model._bounds(entropy, 0.2)]
    queue = all_gather(model.class_queues.queue)
    torch.distributed.destroy_process_group()
    if rank == 0:
        whole = model_of()
        want = take(whole, images, samples)
        alike = torch.equal(queue[0], queue[1]) and torch.allclose(
            queue[0], whole.class_queues.queue, rtol=1e-5, atol=1e-6)
        print('RESULT', json.dumps({
            'bounds': bounds, 'bounds of one': one, 'own bounds': own, 'queues alike': alike,
            'pushed': int(whole.class_queues.pushed.sum()), 'losses': mean['loss_u'],
            'losses of one': want['loss_u']}), flush=True)


if __name__ == '__main__':
    main()
