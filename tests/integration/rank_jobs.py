"""What tools/drills/ranks.py runs on every rank: ``torchrun rank_jobs.py JOB FOLDER COUNT``."""
from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import torch
from mmengine.dist import all_gather_object, get_rank, get_world_size
from mmengine.hooks import Hook
from mmengine.model import MMDistributedDataParallel

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parents[1]))
import tiny

from mmseg_esl import compat

IMAGES = 2  # of each kind on each rank
CE = dict(type='CrossEntropyLoss', avg_non_ignore=True)
OHEM = dict(type='OHEMCrossEntropyLoss', thresh=1.0, min_kept=1)  # keeps every valid pixel
SETTINGS = {  # of the one step: precision, global_average, supervised loss
    'float32': (torch.float32, True, CE), 'float64': (torch.float64, True, CE),
    'float64 ohem': (torch.float64, True, OHEM), 'own means': (torch.float64, False, CE)}
EMPTY = {  # name -> (rank 1's labelled images, its unlabelled ones): a class, or 255 = ignored
    'labelled all ignored': (255, None), 'everything ignored': (255, 255),
    'one class': (1, None), 'unlabelled all padding': (None, 255)}


# ------------------------------------------------------------------------------- many steps agree


class Agreement(Hook):
    """After each iteration: do all ranks hold the same bits?"""
    priority = 'LOWEST'
    parts = ('teacher', 'teacher_projector', 'part_memory', 'student')

    def __init__(self):
        self.steps, self.differing, self.digests = 0, [], set()

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        model = runner.model.module
        mine = {f'{part}.{key}': hashlib.sha256(value.numpy().tobytes()).hexdigest()
                for part in self.parts for key, value in getattr(model, part).state_dict().items()}
        every = all_gather_object(mine)
        self.steps += 1
        self.tensors = len(mine)
        self.digests.add(mine['teacher.decode_head.conv_seg.weight'])
        self.differing += [(runner.iter, key) for key in mine
                           if any(other[key] != mine[key] for other in every)]


def agree(folder: Path, steps: int) -> dict:
    """A real Runner: plain batch norm, dropout, each rank its own images."""
    data = folder / f'data{get_rank()}'
    tiny.write_data(data, labeled=8, unlabeled=8)
    watch, seg = Agreement(), tiny.segmentor()
    seg['decode_head']['dropout_ratio'] = 0.1
    runner = tiny.run(
        folder, data, [tiny.EMA, tiny.PARTS, dict(type='FiniteGuardHook'), watch], max_iters=steps,
        interval=steps, model=tiny.esl_cfg(segmentor=seg, confidence=0.5, queue=16),
        launcher='pytorch', cfg=dict(model_wrapper_cfg=dict(
            type='MMDistributedDataParallel', broadcast_buffers=False, device_ids=None)))
    memory = runner.model.module.part_memory
    return dict(steps=watch.steps, tensors=watch.tensors, differing=len(watch.differing),
                first=watch.differing[:3], teachers=len(watch.digests),
                pushed=int(memory.pushed.sum()))


# --------------------------------------------------------------------------- one step, exactly


def prepared(dtype, shared: bool, loss: dict):
    """A model with frozen batch norm and half filled queues, the same in every process."""
    seg = tiny.segmentor()
    seg['decode_head']['loss_decode'] = loss
    model = tiny.esl(segmentor=seg, sharp=1.0, queue=16, sampling='image', cutmix_prob=1.0,
                     confidence=0.5, global_average=shared)
    gen = torch.Generator().manual_seed(1)
    memory = model.part_memory
    memory.queue[:, :8] = torch.randn(memory.queue[:, :8].shape, generator=gen)
    memory.pushed += 8
    for module in (*model.student.modules(), *model.teacher.modules()):
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1, generator=gen)
    model.iter, model.seed = 3, 5
    return model.to(dtype).eval()


def whole_batch(ranks: int, dtype, size: int):
    """Images and samples of all ranks, labelled first; each label map ignores another share."""
    inputs, samples = tiny.batch(IMAGES * ranks, IMAGES * ranks, seed=2, size=size)
    for i, sample in enumerate(samples):
        sample.gt_sem_seg.data[..., size - size * (i % 8) // 10:] = 255
    return inputs.to(dtype), samples


def one_step(model, forward, inputs, samples) -> dict:
    """Losses, gradients, parts and the memory after one step."""
    found, group = [], model._group

    def listen(*args):
        found.append(group(*args))
        return found[-1].clone()

    model._group = listen
    loss, terms = model.parse_losses(forward(inputs, samples, mode='loss'))
    loss.backward()
    del model._group
    model.part_memory.commit()
    return dict(
        terms={k: v.detach() for k, v in terms.items() if 'loss' in k}, parts=found[0],
        grads={n: p.grad.clone() for n, p in model.named_parameters() if p.requires_grad},
        memory=model.part_memory.state_dict())


def own_step(folder: Path, size: int) -> dict:
    """This rank's share of the step on images of ``size``, into ``folder``."""
    rank, ranks = get_rank(), get_world_size()
    for name, setting in SETTINGS.items():
        inputs, samples = whole_batch(ranks, setting[0], size)
        half = IMAGES * ranks
        own = [i for start in (0, half) for i in range(start + rank * IMAGES,
                                                       start + (rank + 1) * IMAGES)]
        model = prepared(*setting)
        ddp = MMDistributedDataParallel(model, device_ids=None, broadcast_buffers=False)
        result = one_step(model, ddp, inputs[own], [samples[i] for i in own])
        torch.save(result, folder / f'{name} {rank}.pth')
    return {}


# --------------------------------------------------------------------------- ranks with nothing


def empty(folder: Path, steps: int) -> dict:
    """Rank 1 has no labelled class, no anchor, or nothing at all; all ranks step on."""
    finite = {}
    for name, kinds in EMPTY.items():
        model = tiny.esl(sharp=1.0, confidence=0.5)
        ddp = MMDistributedDataParallel(model, device_ids=None, broadcast_buffers=False)
        optimizer = torch.optim.SGD(model.student.parameters(), 0.01)
        for step in range(steps):
            inputs, samples = tiny.batch(IMAGES, IMAGES, seed=10 * step + get_rank())
            for i, sample in enumerate(samples):
                value = kinds[i >= IMAGES]
                if get_rank() == 1 and value is not None:
                    sample.gt_sem_seg.data.fill_(value)
            optimizer.zero_grad()
            loss, _ = model.parse_losses(ddp(inputs, samples, mode='loss'))
            loss.backward()
            optimizer.step()
            model.after_optimizer_step(step, 0.9)
        every = all_gather_object(all(bool(v.isfinite().all()) for v in model.state_dict().values()
                                      if v.is_floating_point()))
        finite[name] = all(every)
    return finite


def main() -> None:
    job, folder, count = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    torch.set_num_threads(1)
    compat.start_gloo('pytorch', timeout=120)
    result = {'agree': agree, 'own_step': own_step, 'empty': empty}[job](folder, count)
    if get_rank() == 0:
        print('RESULT', json.dumps(result), flush=True)


if __name__ == '__main__':
    main()
