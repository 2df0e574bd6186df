"""What the network that labels sees in a batch, as training has it."""
from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..functional import assign_parts, dynamic_soft_label, nearest
from .windows import over_windows

MASS = 0.95  # of the dynamic soft label where the method has none of its own: the paper's eta


@dataclass
class Look:
    """What a network sees in B images of ``(H, W)`` pixels.

    Attributes:
        probs: ``(B, C, H, W)`` float32, its probabilities.
        classes: ``(B, H, W)`` long, their argmax.
        confidence: ``(B, H, W)`` float32, their maximum.
        target, size: dynamic soft label ``(B, C, H, W)`` and number of dominant classes ``(B, H,
            W)`` long, see :func:`mmseg_esl.functional.dynamic_soft_label`.
        grouped: ``(B, H, W)`` long, the class by which the parts were assigned, or -1.
        parts: ``(B, H, W)`` long in [-1, C * K), part k of class c is c * K + k, -1 too for a
            class that has no prototypes yet; None without a part memory. They are found at the
            resolution at which training finds them.
        encoder: ``(B, D, h', w')`` float32, the last stage's features; None without a part memory.
        embedding: ``(B, L, h, w)`` float32, what part queues hold; None without a part memory.
        network: its name, for titles. align_corners: of its bilinear resizes.
    """
    probs: Tensor
    classes: Tensor
    confidence: Tensor
    target: Tensor
    size: Tensor
    grouped: Tensor
    parts: Tensor | None = None
    encoder: Tensor | None = None
    embedding: Tensor | None = None
    network: str = 'network'
    align_corners: bool = False


@torch.no_grad()
def look(model, inputs: Tensor, classes: Tensor | None = None) -> Look:
    """What the network that labels sees, whole or by its sliding windows; the model stays as it is.

    Args:
        model: a method.
        inputs: ``(B, 3, H, W)`` float, as its data preprocessor makes them, on its device.
        classes: ``(B, H, W)`` long, by which to assign parts in place of the argmax
            (training uses the truth where an image is labelled); outside [0, C): no part.

    Raises:
        ValueError: ``classes`` has another shape than the images.
    """
    memory = getattr(model, 'part_memory', None)
    view = over_windows(getattr(model, model.labeler), inputs, lambda images: model.weak_view(
        images, encoder=memory is not None))
    probs = view.logits.float().softmax(dim=1)
    confidence, argmax = probs.max(dim=1)
    if classes is None:
        classes = argmax
    elif classes.shape != argmax.shape:
        raise ValueError(f'classes have shape {tuple(classes.shape)}, the images '
                         f'{tuple(argmax.shape)}')
    known = (classes >= 0) & (classes < probs.shape[1])
    target, size = dynamic_soft_label(probs, mass=getattr(model.cfg, 'mass', MASS))
    seen = Look(probs, argmax, confidence, target, size, torch.where(known, classes, -1),
                network=model.labeler, align_corners=model.align_corners)
    if view.embedding is not None:
        seen.embedding = view.embedding.float()
    if memory is not None:
        seen.encoder, area = view.encoder.float(), inputs.shape[-2:]
        if model.cfg.part_resolution == 'embedding':
            area = view.embedding.shape[-2:]
        grouped = nearest(seen.grouped, area, seen.align_corners)
        parts = assign_parts(seen.encoder, grouped, memory.prototypes,
                             align_corners=seen.align_corners, mask=memory.usable)
        seen.parts = nearest(parts, inputs.shape[-2:], seen.align_corners)
    return seen
