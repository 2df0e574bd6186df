"""Methods in the middle of their training, and a batch for them, without any data set."""
from __future__ import annotations

import logging
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from mmengine.config import Config, ConfigDict
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

import mmseg_esl.register  # noqa: F401  (registers every component)
from mmseg_esl.conversion.config import Method

from .measuring import ROOT

DATA = ROOT / 'configs/_base_/partitions/cityscapes_1-4.py'
NETWORKS = ROOT / 'configs/_base_/networks'
WIDTHS = {18: (512, 64), 34: (512, 64), 50: (2048, 256), 101: (2048, 256)}  # last, first stage


def load(depth: int, crop: int, classes: int, method: str = 'esl') -> Config:
    """A method around the Cityscapes network with another depth, crop or number of classes."""
    cfg = Config.fromfile(str(DATA))
    segmentor, (last, first) = cfg.model, WIDTHS[depth]
    segmentor.pretrained = None  # the weights do not matter to the clock
    segmentor.data_preprocessor.size = (crop, crop)
    segmentor.backbone.depth = depth
    segmentor.decode_head.update(in_channels=last, c1_in_channels=first, num_classes=classes)
    segmentor.auxiliary_head.update(in_channels=last // 2, num_classes=classes)
    return _wrapped(cfg, segmentor, Method(method))


def load_network(name: str, crop: int, classes: int, method: str = 'esl') -> Config:
    """A method around a network of configs/_base_/networks, without weights, on the same data.

    Raises:
        ImportError: on building, if the network is of timm and timm is not installed.
    """
    cfg, network = Config.fromfile(str(DATA)), Config.fromfile(str(NETWORKS / f'{name}.py'))
    segmentor = ConfigDict(cfg.model, **network.network)
    segmentor.data_preprocessor.size = (crop, crop)
    segmentor.backbone.pop('init_cfg', None)
    segmentor.backbone.update(img_size=crop)
    segmentor.decode_head.update(num_classes=classes,
                                 loss_decode=cfg.model.decode_head.loss_decode)
    segmentor.test_cfg = dict(mode='whole')
    cfg.optim_wrapper = ConfigDict(cfg.optim_wrapper, **network.network_optim)
    method = Method(method)
    for layers in ('embedding', 'classifier'):  # DeepLabV3+'s; the default is what all have
        method.cfg.pop(layers, None)
    return _wrapped(cfg, segmentor, method)


def _wrapped(cfg: Config, segmentor: dict, method: Method) -> Config:
    """The data config with its network in a method, as tools/ladder.py would have it."""
    cfg.model = ConfigDict(segmentor=segmentor, **method.cfg)
    if method.own_optimizers:
        cfg.optim_wrapper.networks = method.own_optimizers
    cfg.optim_wrapper.optimizer.lr = 1e-5  # random labels: keep the numbers finite
    return cfg


def build(cfg: Config, device: str):
    """Model in the middle of training, prototypes and full queues random; and its optimiser."""
    init_default_scope('mmseg')
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    with quiet():
        model.init_weights()
    memory = getattr(model, 'part_memory', None)
    if memory is not None:
        memory.start(torch.randn_like(memory.prototypes))
        memory.queue[:, :-1].normal_()
        memory.pushed.fill_(memory.queue_length)
        memory.active = True
    model.driven, model.iter = True, 10 ** 6  # as the hooks would
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


def train_step(model, optimizer, batch) -> None:
    model.train_step(batch, optimizer)
    model.after_optimizer_step(10 ** 6)  # what StepHook does
