"""What dev/drills/ranks.py runs on every rank: ``torchrun rank_jobs.py JOB FOLDER COUNT``."""
from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.dist import all_gather_object, get_rank, get_world_size
from mmengine.hooks import Hook
from mmengine.model import MMDistributedDataParallel
from mmseg.registry import HOOKS
from torch.nn.modules.batchnorm import _BatchNorm

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parents[1]))
import tiny
from collectives import Collectives

from mmseg_esl import stack
from mmseg_esl.engine.hooks.part_init_hook import PartInitHook
from mmseg_esl.models import ClassQueues, PartMemory, gathered
from mmseg_esl.models.pixel_to_part import PixelToPart
from mmseg_esl.storage.config import hooks_in, kind

ROOT = Path(__file__).parents[2]
IMAGES = 2  # of each kind on each rank
CE = dict(type='CrossEntropyLoss', avg_non_ignore=True)
OHEM = dict(type='OHEMCrossEntropyLoss', thresh=1.0, min_kept=1)  # keeps every valid pixel
SETTINGS = {  # of the one step: precision, global_average, supervised loss
    'float32': (torch.float32, True, CE), 'float64': (torch.float64, True, CE),
    'float64 ohem': (torch.float64, True, OHEM), 'own means': (torch.float64, False, CE)}
EMPTY = {  # name -> (rank 1's labelled images, its unlabelled ones): a class, or 255 = ignored
    'labelled all ignored': (255, None), 'everything ignored': (255, 255),
    'one class': (1, None), 'unlabelled all padding': (None, 255)}


# ----------------------------------------------------------------------------- parts at the start


def parts(folder: Path, labeled: int) -> dict:
    """The prototypes of PartInitHook, whose ranks share images and classes."""
    data = folder / f'data{get_rank()}'
    tiny.write_data(data, labeled=labeled)
    runner = tiny.runner(folder, data, [], launcher='pytorch', cfg=dict(model_wrapper_cfg=dict(
        type='MMDistributedDataParallel', broadcast_buffers=False, device_ids=None)))
    memory = runner.model.module.part_memory
    with tiny.quiet():
        runner.model.module.init_weights()
        found, mask, absent = PartInitHook()._prototypes(runner, memory)
    every = all_gather_object(found.tolist())
    assert not absent and mask.all() and all(other == every[0] for other in every)
    return dict(prototypes=every[0])


# ------------------------------------------------------------------------------- many steps agree


class Agreement(Hook):
    """After each iteration: do all ranks hold the same bits?"""
    priority = 'LOWEST'

    def __init__(self):
        self.steps, self.differing, self.digests = 0, [], set()

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        model = runner.model.module
        mine = {key: hashlib.sha256(value.numpy().tobytes()).hexdigest()
                for key, value in model.state_dict().items()}
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


# ------------------------------------------------------------------------------------ collectives


class CountSteps(Hook):
    """Lets a Collectives count from the third step on, when everything has settled."""
    priority = 'VERY_HIGH'

    def __init__(self, collectives):
        self.collectives = collectives

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == 2:  # DDP has built its buckets anew, the parts have been clustered
            self.collectives.counting = True


def communication(folder: Path, classes: int) -> dict:
    """What a step of ESL sends, in calls and bytes, by purpose; per step, without the log's.

    Args:
        classes: 0 takes the tiny network, any other number DeepLabV3+ on a ResNet-50 with so many
            classes, K = 5 parts and everything else of the paper's size but for the images: none
            of the bytes depend on theirs.
    """
    data, steps = folder / f'data{get_rank()}', 5
    tiny.write_data(data, labeled=4, unlabeled=4)
    config = Config.fromfile(ROOT / 'configs/esl/esl_r50_cityscapes_1-4.py')
    model = paper_size(config.model, classes) if classes else tiny.esl_cfg(confidence=0.5)
    counted = Collectives()
    hooks = [hook for hook in hooks_in(config) if kind(hook) != 'SemiCheckpointHook'
             and HOOKS.get(kind(hook)).__module__.startswith('mmseg_esl')]
    with tiny.quiet(), counted:
        runner = tiny.runner(
            folder / 'work', data, [*hooks, CountSteps(counted)], max_iters=steps,
            interval=steps, model=model, launcher='pytorch',
            train_cfg=dict(type='SemiTrainLoop', max_iters=steps),
            default_hooks=dict(
                logger=dict(type='LoggerHook', interval=steps, log_metric_by_epoch=False),
                checkpoint=dict(type='SemiCheckpointHook', by_epoch=False, interval=10 ** 6,
                                save_last=False)),
            cfg=dict(model_wrapper_cfg=dict(type='MMDistributedDataParallel',
                                            broadcast_buffers=False, device_ids=None)))
        runner.train()
    model = runner.model.module
    trained = model.named(trained=True).values()
    norms = [x for m in trained for x in m.modules() if isinstance(x, _BatchNorm)]
    return dict(
        purposes={k: [x / (steps - 2) for x in v] for k, v in counted.found.items()},
        parameters=sum(p.numel() for p in model.parameters() if p.requires_grad),
        buffers=sum(b.numel() for m in trained for b in m.buffers() if b.is_floating_point()),
        norm_layers=len(norms), norm_channels=sum(x.num_features for x in norms),
        memory=list(model.part_memory.prototypes.shape) + [model.part_memory.queue.shape[-1]])


def paper_size(cfg, classes: int) -> dict:
    """The paper's model for so many classes; without its loss on 100 000 pixels and its weights."""
    cfg.segmentor.decode_head.update(num_classes=classes)
    cfg.segmentor.decode_head.loss_decode = dict(type='CrossEntropyLoss', avg_non_ignore=True)
    cfg.segmentor.auxiliary_head.update(num_classes=classes)
    cfg.segmentor.update(pretrained=None)
    cfg.segmentor.backbone.init_cfg = None
    cfg.segmentor.data_preprocessor.size = (32, 32)
    return cfg


# --------------------------------------------------------------------------- one step, exactly


def prepared(dtype, shared: bool, loss: dict):
    """A model with frozen batch norm, half filled queues and a part that lacks its prototype, the
    same in every process."""
    seg = tiny.segmentor()
    seg['decode_head']['loss_decode'] = loss
    model = tiny.esl(segmentor=seg, sharp=1.0, queue=16, sampling='image', cutmix_prob=1.0,
                     confidence=0.5, global_average=shared)
    gen = torch.Generator().manual_seed(1)
    memory = model.part_memory
    memory.prototypes[2, 1] = 0
    memory.start(memory.prototypes)
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
    found, group = [], PixelToPart._group

    def listen(*args):
        found.append(group(*args))
        return found[-1].clone()

    PixelToPart._group = listen
    try:
        loss, terms = model.parse_losses(forward(inputs, samples, mode='loss'))
    finally:
        PixelToPart._group = group
    loss.backward()
    model.part_memory.commit()
    assert model.part_memory.usable.all()
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
        model = tiny.esl(sharp=1.0, confidence=0.5, ema_momentum=0.9)
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
            model.after_optimizer_step(step)
        every = all_gather_object(all(bool(v.isfinite().all()) for v in model.state_dict().values()
                                      if v.is_floating_point()))
        finite[name] = all(every)
    return finite


# ------------------------------------------------------------------------ rows that are wanted


SHARES = {  # case -> what each rank's images have of parts and of pixels that enter a queue
    'different': (0.5, 0.1), 'none on rank 1': (0.5, 0.0), 'none on rank 0': (0.0, 0.5),
    'none': (0.0, 0.0), 'more than fit': (1.0, 0.9)}


def _memories():
    tiny.init_default_scope('mmseg')
    return (PartMemory(3, feat_channels=5, embed_channels=6, num_parts=2, queue_length=7),
            ClassQueues(3, channels=4, length=9, first_length=20))


def _steps(rank: int, share: float) -> list:
    """What PartMemory and ClassQueues are given in each of three steps, by three images."""
    gen, found = torch.Generator().manual_seed(rank), []
    for _ in range(3):
        counts = torch.randint(1, 9, (3, 6), generator=gen).float()
        counts *= torch.rand(3, 6, generator=gen) < share
        sums = torch.randn(3, 6, 6, generator=gen)
        sums[counts.cumsum(0) > 12] = torch.nan  # spoilt ones stay out
        pixels = torch.rand(3, 3, 4, 5, generator=gen) < share
        found.append(((sums, counts, torch.randn(3, 6, 5, generator=gen), counts),
                      (torch.randn(3, 4, 4, 5, generator=gen), pixels)))
    return found


def _staged(steps, num_labeled: int) -> list:
    memories = _memories()
    for step in steps:
        for memory, given in zip(memories, step):
            for end in (memory.rollback, memory.commit):
                memory.stage(*given, num_labeled=num_labeled)
                end()
    return [m.state_dict() for m in memories]


def rows(folder: Path, count: int) -> dict:
    """Are memories the same, bit for bit, whether rows come whole, packed, or in one process?"""
    ranks, rank, kept, found = get_world_size(), get_rank(), {}, {}
    for name, shares in SHARES.items():
        for whole in (2 ** 24, -1):
            gathered.WHOLE, counted = whole, Collectives()
            with counted:
                counted.counting = True
                kept[name, whole] = _staged(_steps(rank, shares[rank]), 1)
            found[f'{name} {"packed" if whole < 0 else "whole"} bytes'] = sum(
                given for _, given, _ in counted.found.values())
    torch.distributed.destroy_process_group()
    for name, shares in SHARES.items():
        each = [_steps(r, shares[r]) for r in range(ranks)]
        joint = [[tuple(torch.cat([x[:1] for x in xs] + [x[1:] for x in xs]) for xs in zip(*given))
                  for given in zip(*step)] for step in zip(*each)]
        want = _staged(joint, ranks)
        found[f'{name} pushed'] = [int(w['pushed'].sum()) for w in want]
        for (case, whole), states in kept.items():
            if case == name:
                found[f'{name} {"packed" if whole < 0 else "whole"}'] = all(
                    torch.equal(a[key], b[key]) for a, b in zip(states, want)
                    for key in ('queue', 'pushed'))
    return found


def main(job: str, folder: Path, count: int) -> None:
    torch.set_num_threads(1)
    stack.start_gloo('pytorch', timeout=120)
    jobs = [agree, own_step, empty, parts, communication, rows]
    rank = get_rank()
    result = {function.__name__: function for function in jobs}[job](folder, count)
    if rank == 0:
        print('RESULT', json.dumps(result), flush=True)


if __name__ == '__main__':
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
