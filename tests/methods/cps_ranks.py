"""Two ranks take steps of CPS, then one of them takes them with all images: see test_cps."""
from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from mmengine.dist import all_gather_object, get_rank
from mmengine.model import MMDistributedDataParallel

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]

import every  # noqa: E402
import tiny  # noqa: E402

from mmseg_esl import stack  # noqa: E402

STEPS, LOSS = 2, dict(type='CrossEntropyLoss', avg_non_ignore=True)


def steps(rows, wrap) -> dict:
    """Gradients of the first step, and all weights after two, of both networks."""
    segmentor = every.pointwise()
    segmentor['decode_head']['loss_decode'] = LOSS
    torch.manual_seed(0)
    model = tiny.method('CPS', segmentor, sharp=1.0).double().eval()
    for p in model.student2.decode_head.parameters():  # sharpened alike: they must differ
        p.data += 0.3 * torch.randn(p.shape, dtype=p.dtype,
                                    generator=torch.Generator().manual_seed(len(p)))
    forward, found = wrap(model), {}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.1,
                                momentum=0.9)
    for number in range(STEPS):
        images, samples = tiny.batch(4, 4, seed=number)
        for i, sample in enumerate(samples):  # as many valid pixels as the rank's share is not
            sample.gt_sem_seg.data[..., 32 - 3 * i:] = 255
        loss, _ = model.parse_losses(forward(images[rows].double(), [samples[i] for i in rows],
                                             mode='loss'))
        optimizer.zero_grad()
        loss.backward()
        if number == 0:
            found = {f'grad {n}': p.grad.clone() for n, p in model.named_parameters()}
        optimizer.step()
        model.after_optimizer_step(number)
    return {**found, **model.state_dict()}


def main() -> None:
    torch.set_num_threads(1)
    stack.start_gloo('pytorch', timeout=120)
    rank = get_rank()
    mine = steps([2 * rank, 2 * rank + 1, 4 + 2 * rank, 5 + 2 * rank],
                 lambda model: MMDistributedDataParallel(model, broadcast_buffers=False))
    ranks = all_gather_object({key: value.tolist() for key, value in mine.items()})
    torch.distributed.destroy_process_group()
    if rank == 0:
        whole = steps(list(range(8)), lambda model: model)
        print('RESULT', json.dumps(dict(
            alike=ranks[0] == ranks[1], names=sorted(whole),
            moved=float((whole['student.decode_head.conv_seg.weight']
                         - whole['student2.decode_head.conv_seg.weight']).abs().max()),
            off={key: float((mine[key].double() - value.double()).abs().max()
                            / value.double().abs().max().clamp(min=1e-3))
                 for key, value in whole.items()})), flush=True)


if __name__ == '__main__':
    main()
