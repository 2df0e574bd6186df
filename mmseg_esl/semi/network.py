"""How one plain segmentor is run: its views of images, its supervised losses, what is tapped."""
from __future__ import annotations

from typing import Callable, Sequence

import torch
from mmseg.models.segmentors import EncoderDecoder
from mmseg.models.utils import resize
from torch import Tensor, nn

from ..functional.phases import phase
from ..models.feature_tap import FeatureTap, Tap, find_module
from ..models.running import running
from ..models.segmentors import metas_of, no_seam
from ..models.supervised import auxiliary_losses, has_stock, head_losses, pixel_means, prefixed
from ..models.views import View
from .batch import Batch

Perturb = Callable[[Sequence[Tensor]], Sequence[Tensor]]


def tapped(net: nn.Module, path: str) -> tuple[nn.Module, str]:
    """The module at a path and that path; a cascade's last head stands for 'decode_head'."""
    if isinstance(net.decode_head, nn.ModuleList) and path.startswith('decode_head.'):
        path = path.replace('decode_head.', 'decode_head.-1.', 1)
    return find_module(net, path), path


def see(net: nn.Module, images: Tensor, *, tap: Tap | None = None, encoder: bool = False,
        perturb: Perturb | None = None, num_logits: int | None = None) -> View:
    """A network's view of ``(B, 3, H, W)`` images.

    Args:
        tap: what fills ``embedding``. encoder: fill ``encoder``.
        perturb: changes the encoder's features (one tensor a level) on their way to the decoder.
        num_logits: logits of the last so many images only (None: all); features are of all.

    Raises:
        TypeError: ``perturb`` with a segmentor whose decoder cannot be run by itself.
    """
    first = 0 if num_logits is None else len(images) - num_logits
    embedding = _listener(net, tap)
    stage = FeatureTap(net.backbone, 'backbone', output=True)
    with embedding.listen(), stage.listen():
        if (type(net).encode_decode is EncoderDecoder.encode_decode
                and has_stock(net.decode_head, 'predict', 'predict_by_feat')):
            # the same as below, but what nobody asks for is not brought to full size
            feats = net.extract_feat(images)
            logits = net.decode_head(feats if perturb is None else perturb(feats))
            logits = logits[-1] if isinstance(logits, list) else logits  # KNet: of each stage
            logits = upsample(net, logits[first:], images)
        elif perturb is None:
            logits = net.encode_decode(images, metas_of(images))[first:]
        else:
            raise no_seam(net)
    return View(logits, _projected(tap, embedding), stage.take() if encoder else None)


@phase('student')
def train_on(net: nn.Module, batch: Batch, views: Sequence[Tensor], *, divisor=None,
             joint: bool = True, auxiliary: bool = False, tap: Tap | None = None,
             perturb: Sequence[Perturb] = (), labeled: bool = False):
    """One training forward over the labelled images and views of the unlabelled ones.

    Args:
        views: tensors ``(n, 3, H, W)``, n may be 0.
        divisor: see models.supervised.pixel_means.
        joint: all images in one forward, hence one set of batch-norm statistics; where that cannot
            be (see :func:`is_joint`), each of them in its own.
        auxiliary: losses of the auxiliary heads too.
        perturb: each one gives one more view: the features of the labelled images and of
            ``views[0]`` are changed and decoded in the same batch as the others.
        labeled: a view of the labelled images too, before the others (if they are not in one
            forward, by a forward that leaves batch norm's running statistics alone).

    Returns:
        losses: of the labelled images, as mmseg names them.
        views: Views with logits alone, of ``views``, then of ``perturb``.
        embedding: of the labelled images and of ``views``, in this order; None without ``tap``.

    Raises:
        TypeError: ``perturb``, and the decoder cannot be run by itself.
    """
    with pixel_means(net, divisor):
        run = _jointly if joint and is_joint(net) else _apart
        return run(net, batch, views, auxiliary, tap, perturb, labeled)


def _jointly(net, batch, views, auxiliary, tap, perturb, labeled):
    num, sizes = batch.num_labeled, [len(view) for view in views]
    listener = _listener(net, tap)
    with listener.listen():
        feats = net.extract_feat(torch.cat([batch.labeled, *views]))
        more = [function([f[:num + sizes[0]] for f in feats]) for function in perturb]
        all_feats = [torch.cat(level) for level in zip(feats, *more)] if more else feats
        logits = net.decode_head(all_feats)
    samples = batch.samples[:num]
    with phase('supervised loss'):
        losses = prefixed('decode', head_losses(net.decode_head, logits[:num], samples))
    if auxiliary and net.with_auxiliary_head:
        losses.update(auxiliary_losses(net, [f[:num] for f in feats], samples))
    groups = list(logits[num:].split([*sizes, *(num + sizes[0] for _ in perturb)]))
    groups[len(sizes):] = [group[num:] for group in groups[len(sizes):]]
    if labeled:
        groups.insert(0, logits[:num])
    seen = [View(upsample(net, group, batch.labeled) if len(group) else group) for group in groups]
    return losses, seen, _projected(tap, listener, num + sum(sizes))


def _apart(net, batch, views, auxiliary, tap, perturb, labeled):
    if perturb:
        raise no_seam(net)
    listener = _listener(net, tap)
    with listener.listen():
        losses = net.loss(batch.labeled, batch.samples[:batch.num_labeled])
    if not auxiliary:
        losses = {k: v for k, v in losses.items() if not k.startswith('aux')}
    embeddings, seen = [_projected(tap, listener)], []
    if labeled:
        with running(net, statistics=False):
            seen.append(see(net, batch.labeled))
    for view in views:
        seen.append(see(net, view, tap=tap) if len(view) else View(view.new_zeros(0)))
        if len(view):
            embeddings.append(seen[-1].embedding)
    return losses, seen, None if tap is None else torch.cat(embeddings)


def is_joint(net: nn.Module) -> bool:
    """Whether labelled and other images can share a forward: the head's losses are mmseg's own."""
    # EncHead, say, returns more than its logits
    return (has_stock(net.decode_head, 'loss', 'loss_by_feat')
            and type(net).loss is EncoderDecoder.loss)


def upsample(net: nn.Module, logits: Tensor, like: Tensor) -> Tensor:
    """Logits at the size of images, in float as they are."""
    return resize(logits, size=like.shape[-2:], mode='bilinear', align_corners=net.align_corners)


def _listener(net, tap: Tap | None) -> FeatureTap:
    if tap is None:  # nothing will be taken: any module will do
        return FeatureTap(net, 'segmentor')
    return FeatureTap(*tapped(net, tap.path))


def _projected(tap: Tap | None, listener: FeatureTap, num: int | None = None) -> Tensor | None:
    """Of the first ``num`` images: perturbed features, if there are any, come after them."""
    return None if tap is None else tap.project(listener.take()[:num])
