"""Which of mmseg's segmentors can be trained here, and the head that predicts."""
from __future__ import annotations

import copy

import torch
from mmengine.model import revert_sync_batchnorm
from mmseg.registry import MODELS
from torch import Tensor, nn

SEVERAL_OUTPUTS = ('DDRHead', 'PIDHead')
OF_OTHER_CLASSES = ('STDCHead', )  # it learns where classes end, as two classes


def build_segmentor(cfg: dict) -> nn.Module:
    """A segmentor that can be trained: softmax over C >= 2 channels, one output.

    Raises:
        ValueError: it cannot; says why and what to set.
    """
    net = MODELS.build(copy.deepcopy(cfg))  # mmseg writes into it, and a second one may follow
    head = main_head(net)
    if head is None:
        raise ValueError(f'{type(net).__name__} has no decode_head: only segmentors like '
                         'EncoderDecoder can be wrapped')
    if head.out_channels != head.num_classes or head.num_classes < 2:
        raise ValueError(
            f'decode_head has num_classes={head.num_classes} and out_channels='
            f'{head.out_channels}: soft labels need one softmax channel per class. Set '
            'out_channels to num_classes (2 for a binary problem) and use_sigmoid=False.')
    if type(head).__name__ in SEVERAL_OUTPUTS:
        raise ValueError(f'{type(head).__name__} gives several outputs in training, none of '
                         'them known to be the prediction: use another decode_head')
    return net


def main_head(net: nn.Module):
    """The head that predicts: the last one of a cascade."""
    head = getattr(net, 'decode_head', None)
    return head[-1] if isinstance(head, nn.ModuleList) else head


def trained_heads(net: nn.Module) -> dict[str, nn.Module]:
    """Every head that learns the classes, also of a cascade and auxiliary ones, by its path."""
    found = {}
    for name in ('decode_head', 'auxiliary_head'):
        head = getattr(net, name, None)
        several = isinstance(head, nn.ModuleList)
        for i, one in enumerate(head if several else [head]):
            if one is not None and type(one).__name__ not in OF_OTHER_CLASSES and any(
                    p.requires_grad for p in one.parameters()):
                found[f'{name}.{i}' if several else name] = one
    return found


def classifiers(net: nn.Module) -> list[str]:
    """Paths of the head's convolutions that give one channel a class; the last one first."""
    head = main_head(net)
    return [f'decode_head.{name}' for name, module in reversed(list(head.named_modules()))
            if isinstance(module, nn.Conv2d) and module.out_channels == head.num_classes]


def on_this_machine(module: nn.Module) -> nn.Module:
    """The module as this machine can run it: SyncBN runs on accelerators only."""
    return module if torch.cuda.is_available() else revert_sync_batchnorm(module)


def no_seam(net: nn.Module) -> TypeError:
    """The error of a segmentor whose decoder is not run by itself."""
    return TypeError(
        f'the encoder\'s features cannot be perturbed on their way into {type(net).__name__} with '
        f'{type(main_head(net)).__name__}: its decoder is not run by itself, or '
        'semi_train_cfg.joint_forward is False. Use another decode_head, or a method without '
        'perturbed features')


def metas_of(images: Tensor) -> list[dict]:
    """Of images as they are: a sample's img_shape is the unpadded size, which mmseg resizes to."""
    size = tuple(images.shape[-2:])
    return [dict(ori_shape=size, img_shape=size, pad_shape=size)] * len(images)
