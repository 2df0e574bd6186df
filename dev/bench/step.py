"""A whole ESL step against its floor: what any teacher-student step with a projector has to do."""
from __future__ import annotations

import logging
import statistics
import sys
from collections import defaultdict
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

import mmseg_esl.register  # noqa: F401  (registers every component)
from mmseg_esl.models.feature_tap import FeatureTap

from .counting import SyncCounter
from .measuring import ROOT, Work, alternate, peak_memory, ratio

CONFIG = ROOT / 'configs/esl/esl_r50_cityscapes_1-4.py'
WIDTHS = {18: (512, 64), 34: (512, 64), 50: (2048, 256), 101: (2048, 256)}  # last, first stage
FUNCTIONAL = 'mmseg_esl.functional'


def load(depth: int, crop: int, classes: int) -> Config:
    """The project's Cityscapes config with another depth, crop or number of classes."""
    cfg = Config.fromfile(str(CONFIG))
    segmentor, (last, first) = cfg.model.segmentor, WIDTHS[depth]
    segmentor.pretrained = None  # the weights do not matter to the clock
    segmentor.data_preprocessor.size = (crop, crop)
    segmentor.backbone.depth = depth
    segmentor.decode_head.update(in_channels=last, c1_in_channels=first, num_classes=classes)
    segmentor.auxiliary_head.update(in_channels=last // 2, num_classes=classes)
    cfg.optim_wrapper.optimizer.lr = 1e-5  # random labels: keep the numbers finite
    return cfg


def build(cfg: Config, device: str):
    """Model in the middle of training, prototypes and full queues random; and its optimiser."""
    init_default_scope('mmseg')
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    with quiet():
        model.init_weights()
    memory = model.part_memory
    memory.start(torch.randn_like(memory.prototypes))
    memory.queue[:, :-1].normal_()
    memory.pushed.fill_(memory.queue_length)
    memory.active, model.driven, model.iter = True, True, 10 ** 6  # as the hooks would
    model = model.to(device).train()
    with quiet():
        return model, build_optim_wrapper(model, cfg.optim_wrapper)


@contextmanager
def quiet():
    """init_weights reports every tensor, the optimiser every frozen one."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def make_batch(labeled: int, unlabeled: int, classes: int, crop: int) -> dict:
    """As the data loader gives it: images of random bytes, labels in patches, a void border."""
    gen = torch.Generator().manual_seed(0)
    samples, images = [], []
    for i in range(labeled + unlabeled):
        images.append(torch.randint(256, (3, crop, crop), generator=gen, dtype=torch.uint8))
        label = torch.randint(classes, (1, 1, 12, 12), generator=gen).float()
        label = F.interpolate(label, size=(crop, crop))[0].long()
        label = label if i < labeled else torch.zeros_like(label)
        label[..., :crop // 32] = 255
        sample = SegDataSample(gt_sem_seg=PixelData(data=label))
        size = (crop, crop)
        sample.set_metainfo(
            dict(img_shape=size, ori_shape=size, pad_shape=size, labeled=i < labeled))
        samples.append(sample)
    return dict(inputs=images, data_samples=samples)


def esl_step(model, optimizer, batch) -> None:
    model.train_step(batch, optimizer)
    model.after_optimizer_step(10 ** 6)  # what StepHook does


def floor_step(model, optimizer, batch, labels) -> None:
    """Same networks, images and optimiser; no term, no label and no average of ESL's.

    The strictest reading: the teacher's logits stay at the resolution of its decoder.
    """
    inputs = model.data_preprocessor(batch, training=True)['inputs']
    with optimizer.optim_context(model):  # autocast, if the step has it
        with torch.no_grad():
            network(*model.named(trained=False).values(), inputs)
        logits, embedding = network(*model.named(trained=True).values(), inputs)
        logits = F.interpolate(logits, size=inputs.shape[-2:], mode='bilinear',
                               align_corners=model.align_corners)
        loss = F.cross_entropy(logits, labels, ignore_index=255)
    # times zero: the projector is back-propagated through all the same
    optimizer.update_params(loss + 0.0 * embedding.mean())


def network(segmentor, projector, inputs):
    tap = FeatureTap(segmentor.decode_head.conv_seg, 'decode_head.conv_seg')
    with tap.listen():
        logits = segmentor.decode_head(segmentor.extract_feat(inputs))
    return logits, projector(tap.take())


# ------------------------------------------------------------------------------- measurements


def count_step(model, batch) -> dict:
    """Operations and waits from the teacher's forward to the end of backward, and of the EMA."""
    data = model.data_preprocessor(batch, training=True)
    with SyncCounter() as step:
        loss, _ = model.parse_losses(model(**data, mode='loss'))
        loss.backward()
    with SyncCounter() as after:
        model.after_optimizer_step(10 ** 6)
    model.zero_grad()
    return dict(operations=step.all, waits=dict(step.waits), ema_operations=after.all,
                ema_waits=dict(after.waits))


@contextmanager
def recorded():
    """Collect every call that the package makes to ``functional``: (name, function, args, kwargs).

    Found are the functions that a module of the package has imported by name.
    """
    calls, undo = [], []

    def listener(name, function):
        def listen(*args, **kwargs):
            calls.append((name, function, args, kwargs))
            return function(*args, **kwargs)
        return listen

    users = [module for name, module in list(sys.modules.items())
             if name.startswith('mmseg_esl.') and not name.startswith(FUNCTIONAL)]
    for module in users:
        for name, function in list(vars(module).items()):
            if (callable(function) and not isinstance(function, type)
                    and (getattr(function, '__module__', None) or '').startswith(FUNCTIONAL)):
                undo.append((module, name, function))
                setattr(module, name, listener(name, function))
    try:
        yield calls
    finally:
        for module, name, function in undo:
            setattr(module, name, function)


def replays(model, optimizer, batch) -> dict[str, list[Work]]:
    """The functional calls of one real step, by name, each to be run again on its own with the
    arguments that it had; forward and, where a gradient flows, backward."""
    with recorded() as calls:
        esl_step(model, optimizer, batch)
    works = defaultdict(list)
    for name, function, args, kwargs in calls:
        leaves = []

        def apart(x, leaves=leaves):
            if not torch.is_tensor(x) or not x.requires_grad:
                return x
            leaves.append(x.detach().requires_grad_())
            return leaves[-1]

        args, kwargs = [apart(a) for a in args], {k: apart(v) for k, v in kwargs.items()}
        works[name].append(Work(replay(function, args, kwargs, bool(leaves)), leaves))
    return dict(works)


def replay(function, args, kwargs, gradient: bool):
    def forward():
        with torch.set_grad_enabled(gradient):
            out = function(*args, **kwargs)
        out = out[0] if isinstance(out, tuple) else out
        return out.float().sum() if gradient else None
    return forward


def run(device: str, rounds: int, depth: int, crop: int, batch: int, classes: int,
        say=print) -> dict:
    """ESL step against the floor, A B A B; shares of the pieces; operations and waits."""
    model, optimizer = build(load(depth, crop, classes), device)
    data = make_batch(batch, batch, classes, crop)
    labels = torch.randint(classes, (2 * batch, crop, crop), device=device)
    works = dict(esl=lambda: esl_step(model, optimizer, data),
                 floor=lambda: floor_step(model, optimizer, data, labels))
    say(f'step: R{depth}, {classes} classes, crop {crop}, {batch} + {batch} images')
    times = alternate(works, rounds)
    seconds = {name: statistics.median(values) for name, values in times.items()}
    say('step: pieces')
    pieces = {}
    for name, calls in replays(model, optimizer, data).items():
        spent = alternate({str(i): work for i, work in enumerate(calls)}, rounds)
        pieces[name] = dict(calls=len(calls),
                            seconds=sum(statistics.median(v) for v in spent.values()))
    say('step: operations and memory')
    return dict(
        depth=depth, classes=classes, crop=crop, images=2 * batch, seconds=seconds, times=times,
        ratio=ratio(times, 'esl', 'floor'), pieces=pieces, counts=count_step(model, data),
        memory={name: peak_memory(work) for name, work in works.items()},
        images_per_second=2 * batch / seconds['esl'])
