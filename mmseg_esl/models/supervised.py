"""mmseg's supervised losses: means over all ranks' pixels, and no wait for the device.

mmseg reads the number of valid pixels on the host (``avg_non_ignore``) and picks pixels by a mask
(``accuracy``); both stop the host until the device has come so far.

DistributedDataParallel averages gradients over the ranks. A rank that divides its sum by the *mean*
of all ranks' counts contributes world * own sum / all counts, and the average is exactly the sum of
all over the count of all.
"""
from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import Callable

import torch
from mmengine.dist import all_reduce, get_world_size
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.models.losses import CrossEntropyLoss
from mmseg.models.utils import resize
from torch import Tensor, nn

from .losses import OHEMCrossEntropyLoss

EPS = torch.finfo(torch.float32).eps


@torch.no_grad()
def mean_over_ranks(count: Tensor) -> Tensor:
    """Mean over the ranks of a count of any shape, as float64; at least 1 / world.

    A collective: every rank has to call it, whatever it has counted.
    """
    count = count.to(torch.float64, copy=True)
    all_reduce(count)
    return count.clamp(min=1) / get_world_size()


def head_losses(head: nn.Module, logits: Tensor, samples) -> dict[str, Tensor]:
    """``BaseDecodeHead.loss_by_feat`` without waiting for the device.

    Args:
        head: a decode head; one with a pixel sampler or a loss of its own does it its own way.
        logits: ``(N, C, h, w)``.
        samples: N data samples with ``gt_sem_seg`` of ``(1, H, W)``.

    Returns:
        the head's loss terms by name, and ``acc_seg``, the valid pixels that are right in per cent.
    """
    if head.sampler is not None or not has_stock(head, 'loss_by_feat'):
        return head.loss_by_feat(logits, samples)
    label = head._stack_batch_gt(samples)
    logits = resize(logits, size=label.shape[2:], mode='bilinear',
                    align_corners=head.align_corners)
    label, losses = label.squeeze(1), {}
    terms = head.loss_decode if isinstance(head.loss_decode, nn.ModuleList) else [head.loss_decode]
    for term in terms:
        value = term(logits, label, weight=None, ignore_index=head.ignore_index)
        losses[term.loss_name] = losses.get(term.loss_name, 0.0) + value
    losses['acc_seg'] = _accuracy(logits, label, head.ignore_index)
    return losses


@torch.no_grad()
def _accuracy(logits: Tensor, label: Tensor, ignore_index: int) -> Tensor:
    right = (logits.argmax(dim=1) == label) & (label != ignore_index)
    share = right.sum() / (label != ignore_index).sum().clamp(min=1)
    return 100.0 * share[None]  # of the shape that mmseg gives it


@contextmanager
def pixel_means(segmentor: nn.Module, divisor: Callable[[Tensor], Tensor] | None):
    """Let a segmentor's losses, within the block, count their pixels on the device.

    Known are mmseg's CrossEntropyLoss (softmax, reduction 'mean'), with avg_non_ignore or without,
    with class_weight or without, and OHEMCrossEntropyLoss (each rank still keeps its own hardest
    pixels). Any other loss stays as it is, a mean over its rank's batch.

    Args:
        divisor: turns a count into what the sum is divided by, such as :func:`mean_over_ranks`;
            None: the own count.
    """
    with ExitStack() as stack:
        for module in segmentor.modules():
            if isinstance(module, OHEMCrossEntropyLoss):
                module.divisor = divisor
                stack.callback(setattr, module, 'divisor', None)
            elif _is_plain(module):
                handle = module.register_forward_pre_hook(
                    _Count(divisor, module.class_weight), with_kwargs=True)
                stack.callback(handle.remove)
                stack.callback(setattr, module, 'class_weight', module.class_weight)
                module.class_weight = None  # mmseg would bring it to the device anew, and wait
        yield


def _is_plain(module: nn.Module) -> bool:
    return (type(module) is CrossEntropyLoss and module.reduction == 'mean'
            and not (module.use_sigmoid or module.use_mask))


class _Count:
    """Gives CrossEntropyLoss the number of pixels, which it would count on the host, and its
    classes' weights as the pixels'."""

    def __init__(self, divisor, class_weight):
        self.divisor, self.class_weight = divisor, class_weight

    @torch.no_grad()
    def __call__(self, module, args, kwargs):
        label = args[1] if len(args) > 1 else kwargs['label']
        ignored = label == kwargs.get('ignore_index', -100)
        if self.class_weight is not None:
            weight = torch.tensor(self.class_weight, dtype=torch.promote_types(
                args[0].dtype, torch.float32)).to(label.device, non_blocking=True)
            weight = weight[label.clamp(0, len(weight) - 1)].masked_fill(ignored, 0.0)
            given = args[2] if len(args) > 2 else kwargs.get('weight')
            args, kwargs = args[:2], {**kwargs, 'weight': weight if given is None
                                      else weight * given}
        if kwargs.get('avg_factor') is not None or kwargs.get('reduction_override'):
            return args, kwargs
        if self.class_weight is not None:
            # where pixels are ignored, mmseg fails without avg_non_ignore
            count = weight.sum()
        elif module.avg_non_ignore:
            count = (~ignored).sum()
        else:
            count = label.new_full((), label.numel())
        factor = count
        if self.divisor is not None:
            factor = self.divisor(count) - EPS  # which mmseg adds again
        return args, {**kwargs, 'avg_factor': factor}


def auxiliary_losses(net: nn.Module, feats: list[Tensor], samples) -> dict[str, Tensor]:
    """Losses of a segmentor's auxiliary heads, named as mmseg does, without waiting."""
    heads, losses = net.auxiliary_head, {}
    several = isinstance(heads, nn.ModuleList)
    for idx, head in enumerate(heads if several else [heads]):
        found = (head_losses(head, head(feats), samples) if has_stock(head, 'loss')
                 else head.loss(feats, samples, net.train_cfg))
        losses.update(prefixed(f'aux_{idx}' if several else 'aux', found))
    return losses


def has_stock(head: nn.Module, *methods: str) -> bool:
    """Whether a head's methods are BaseDecodeHead's own."""
    return all(getattr(type(head), m, None) is getattr(BaseDecodeHead, m) for m in methods)


def prefixed(prefix: str, losses: dict) -> dict:
    return {f'{prefix}.{key}': value for key, value in losses.items()}


def connected_zero(*modules: nn.Module | None) -> Tensor | float:
    """A zero with a path to every parameter, so that DDP sees each one used in every step."""
    return sum((p.sum() * 0.0 for m in modules if m is not None for p in m.parameters()
                if p.requires_grad), 0.0)


def scaled(losses: dict, factor: float) -> dict:
    """Losses, not the accuracies beside them, times a factor; a loss may be a list of them."""
    if factor == 1:
        return losses

    def times(value):
        return [times(one) for one in value] if isinstance(value, list) else value * factor

    return {name: times(value) if 'loss' in name else value for name, value in losses.items()}
