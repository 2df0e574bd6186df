"""How much memory and disk a run will need; measured on tensors without content."""

from __future__ import annotations

import shutil
import warnings
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS
from torch import nn

from ..models.probe import in_channels
from ..semi import Tap
from ..storage.config import kind, offline
from .findings import Finding
from .lists import existing_parent
from .method import method_of
from .training import counts

GB = 2 ** 30
OPTIMIZER_STATES = {'Adam': 2, 'AdamW': 2, 'NAdam': 2, 'Adamax': 2, 'RMSprop': 1}


@dataclass(frozen=True)
class Sizes:
    """Bytes. ``state``: the model's state dict; ``trained``: its parameters with a gradient;
    ``activations``: what one step keeps for the backward pass; ``targets``: what labels of the
    unlabelled images take beside it; ``momenta``: the optimiser's own state."""
    state: int
    trained: int
    momenta: int
    activations: int
    targets: int

    @property
    def checkpoint(self) -> int:
        return self.state + self.momenta

    @property
    def step(self) -> int:
        """Weights, gradients, optimiser, activations and targets."""
        return self.state + self.trained + self.momenta + self.activations + self.targets


def measure(cfg, world: int = 1) -> Sizes:
    """Build the model on torch's 'meta' device and run its first network once on a batch's shape.

    The batch is that of one of ``world`` processes. No weight is loaded and nothing is computed.
    Activations are those of as many images as the method trains on in a step, encoder and decoder
    apart: of the forwards of an image that its ``passes`` tell, every three are one with its
    backward pass, the others keep nothing.

    Raises:
        ValueError: the model is a plain segmentor. Whatever building the model raises.
    """
    init_default_scope('mmseg')
    cls, semi = method_of(cfg)
    if cls is None:
        raise ValueError(f"model.type '{kind(cfg.model)}' is no method: wrap the segmentor in one, "
                         'model=dict(type=..., segmentor=dict(...))')
    labeled, unlabeled = counts(cfg, world)
    images = max(2, labeled + unlabeled)  # batch norm after global pooling takes no single one
    model = on_meta(cfg.model).train()
    with torch.device('meta'):
        encoder, decoder, logits = _saved(
            model, torch.empty(images, in_channels(model.main), *crop_size(cfg)))
    trained = sum(_bytes(p) for p in model.parameters() if p.requires_grad)
    optimizer = cfg.optim_wrapper.get('optimizer') or {}
    states = OPTIMIZER_STATES.get(optimizer.get('type'), int(bool(optimizer.get('momentum'))))
    passes = cls.passes(semi)
    encoded, decoded = (labeled * (passes['labeled'][i] // 3)
                        + unlabeled * (passes['unlabeled'][i] // 3) for i in (0, 1))
    saved = int(encoder * encoded + decoder * decoded) // images
    looked_at = unlabeled if any(passes['unlabeled']) else 0
    half = cfg.optim_wrapper.get('type') == 'AmpOptimWrapper'
    return Sizes(state=sum(_bytes(v) for v in model.state_dict().values()), trained=trained,
                 momenta=states * trained, activations=saved // (2 if half else 1),
                 targets=4 * logits * looked_at // images)  # probabilities, sorted, two targets


def on_meta(cfg):
    """A model on torch's 'meta' device: shapes without values.

    One that looks at values while it is built (stochastic depth of SegFormer, Swin and other
    transformers) is built on the CPU first.
    """
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # training will say it again
        try:
            with torch.device('meta'):
                built = MODELS.build(offline(cfg))
        except Exception:  # each version of torch calls it otherwise
            built = MODELS.build(offline(cfg)).to('meta')
    return revert_sync_batchnorm(built)  # SyncBN cannot run there, and takes what BN takes


def crop_size(cfg) -> tuple[int, int]:
    """(H, W) that a batch has: the preprocessor's, or the crop's."""
    pre = cfg.model.get('segmentor', {}).get('data_preprocessor') or \
        cfg.model.get('data_preprocessor') or {}
    size = pre.get('size') or cfg.get('crop_size')
    if size is None:
        raise ValueError('neither data_preprocessor.size nor crop_size says how large a crop is')
    return tuple(size)


def _saved(model, inputs) -> tuple[int, int, int]:
    """Bytes that autograd keeps of one forward of the first network: of its encoder and of its
    decoder with what reads its features, each storage once; and bytes of its logits."""
    own = {p.untyped_storage()._cdata for p in model.parameters()}
    kept = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage  # kept alive: its address must not be used again
        return tensor

    def held(*_):
        return sum(storage.nbytes() for storage in kept.values())

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        with after_encoder(model.main, held) as encoder:
            view = model.see(next(iter(model.roles)), inputs, grad=True, tap=trained_tap(model))
        outputs = [view.logits.log_softmax(1).sum()]
        if view.embedding is not None:
            outputs.append(view.embedding.sum())
        total = sum(outputs)
    del total
    return encoder[0], held() - encoder[0], _bytes(view.logits)


@contextmanager
def after_encoder(net, look):
    """A list that gets ``look()`` when the encoder of a segmentor has run, backbone and neck."""
    found = []
    encoder = net.neck if net.with_neck else net.backbone
    handle = encoder.register_forward_hook(lambda *_: found.append(look()))
    try:
        yield found
    finally:
        handle.remove()


def trained_tap(model) -> Tap | None:
    """What listens to the first network, with the trained network that reads it; None: nothing."""
    readers = [net for net in model.named(trained=True, plain=False).values()
               if type(net).forward is not nn.Module.forward]  # others run piece by piece
    return next((Tap(path, reader) for path, reader in zip(model.tapped, readers)), None)


def _bytes(tensor) -> int:
    return tensor.numel() * tensor.element_size()


def check_memory(sizes: Sizes, total: int | None) -> list[Finding]:
    """Estimated memory of one GPU against what there is (None: unknown)."""
    parts = ', '.join(f'{name} {value / GB:.2f}' for name, value in (
        ('weights and buffers', sizes.state), ('gradients', sizes.trained),
        ('optimiser', sizes.momenta), ('activations', sizes.activations),
        ('targets', sizes.targets)))
    text = (f'about {sizes.step / GB:.1f} GB for one process ({parts}). Measured: the tensors that '
            "autograd saves in a forward of a batch's shape, as often as the method trains on one; "
            'not counted: workspace of convolutions, fragmentation (add a fifth)')
    if total is not None and 1.2 * sizes.step > total:
        return [Finding('warning', 'memory', f'{text}; the GPU has {total / GB:.1f} GB',
                        'smaller batch or crop, AmpOptimWrapper, or with_cp=True of the backbone')]
    return [Finding('note' if total is None else 'ok', 'memory', text)]


def check_disk(cfg, sizes: Sizes, free: int | None = None) -> list[Finding]:
    """Space for the checkpoints of the whole run in work_dir.

    Args:
        cfg: the config. sizes: of the model. free: bytes; None asks the file system.
    """
    folder = existing_parent(cfg.get('work_dir') or '.')
    free = shutil.disk_usage(folder).free if free is None else free
    hook = (cfg.get('default_hooks') or {}).get('checkpoint') or {}
    iters, every = cfg.train_cfg.get('max_iters', 0), hook.get('interval', -1)
    saves = iters // every if every and every > 0 else 0
    saves += int(hook.get('save_last', True) and (saves == 0 or iters % every > 0))
    keep = hook.get('max_keep_ckpts', -1)
    best = hook.get('save_best')
    number = min(saves, keep + 1) if keep and keep > 0 else saves  # one more while saving
    number += len(best) if isinstance(best, (list, tuple)) else int(bool(best))
    need = number * sizes.checkpoint
    text = (f'{number} checkpoint(s) of {sizes.checkpoint / GB:.2f} GB = {need / GB:.1f} GB; '
            f'{free / GB:.1f} GB are free at {folder}')
    if need > free:
        return [Finding('error', 'disk', text, 'free space, choose another work_dir, or set '
                        'default_hooks.checkpoint.max_keep_ckpts=1')]
    if need > 0.8 * free:
        return [Finding('warning', 'disk', text, 'default_hooks.checkpoint.max_keep_ckpts=1')]
    return [Finding('ok', 'disk', text)]
