"""How much memory and disk a run will need; measured on tensors without content."""

from __future__ import annotations

import copy
import shutil
from dataclasses import dataclass

import torch
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS

from .findings import Finding
from .lists import existing_parent
from .training import counts

GB = 2 ** 30
OPTIMIZER_STATES = {'Adam': 2, 'AdamW': 2, 'NAdam': 2, 'Adamax': 2, 'RMSprop': 1}


@dataclass(frozen=True)
class Sizes:
    """Bytes. ``state``: the model's state dict; ``trained``: its parameters with a gradient;
    ``activations``: what one step keeps for the backward pass; ``teacher``: what the teacher's
    outputs take beside it; ``momenta``: the optimiser's own state."""
    state: int
    trained: int
    momenta: int
    activations: int
    teacher: int

    @property
    def checkpoint(self) -> int:
        return self.state + self.momenta

    @property
    def step(self) -> int:
        """Weights, gradients, optimiser, activations and the teacher's outputs."""
        return self.state + self.trained + self.momenta + self.activations + self.teacher


def measure(cfg, world: int = 1) -> Sizes:
    """Build the model on torch's 'meta' device and run the student once on a batch's shape.

    The batch is that of one of ``world`` processes. No weight is loaded and nothing is computed.
    Raises whatever building the model raises.
    """
    init_default_scope('mmseg')
    labeled, unlabeled = counts(cfg, world)
    with torch.device('meta'):
        # on meta, SyncBN cannot run and takes what BN takes
        model = revert_sync_batchnorm(MODELS.build(without_downloads(cfg.model))).train()
        model.teacher.eval()
        inputs = torch.empty(labeled + unlabeled, 3, *crop_size(cfg))
        saved, view = _saved(model, inputs)
    trained = sum(_bytes(p) for p in model.parameters() if p.requires_grad)
    optimizer = cfg.optim_wrapper.get('optimizer') or {}
    states = OPTIMIZER_STATES.get(optimizer.get('type'), int(bool(optimizer.get('momentum'))))
    logits = _bytes(view.logits) * unlabeled // max(len(inputs), 1)
    half = cfg.optim_wrapper.get('type') == 'AmpOptimWrapper'
    return Sizes(state=sum(_bytes(v) for v in model.state_dict().values()), trained=trained,
                 momenta=states * trained, activations=saved // (2 if half else 1),
                 teacher=4 * logits)  # probabilities, sorted, target, mixed target


def crop_size(cfg) -> tuple[int, int]:
    """(H, W) that a batch has: the preprocessor's, or the crop's."""
    pre = cfg.model.get('segmentor', {}).get('data_preprocessor') or \
        cfg.model.get('data_preprocessor') or {}
    size = pre.get('size') or cfg.get('crop_size')
    if size is None:
        raise ValueError('neither data_preprocessor.size nor crop_size says how large a crop is')
    return tuple(size)


def _saved(model, inputs):
    """Bytes that autograd keeps of one student forward, each storage once; and the view."""
    own = {p.untyped_storage()._cdata for p in model.parameters()}
    kept = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage  # kept alive: its address must not be used again
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        view = model._whole_view(model.student, model.projector, inputs, encoder=False)
        outputs = [view.logits.log_softmax(1).sum()]
        if view.embedding is not None:
            outputs.append(view.embedding.sum())
        total = sum(outputs)
    del total
    return sum(storage.nbytes() for storage in kept.values()), view


def _bytes(tensor) -> int:
    return tensor.numel() * tensor.element_size()


def without_downloads(model) -> dict:
    """A copy of a model's config that builds without pretrained weights."""
    model = copy.deepcopy(model)
    segmentor = model.get('segmentor', model)
    segmentor['pretrained'] = None
    if segmentor['backbone'].get('pretrained'):
        segmentor['backbone']['pretrained'] = False if \
            segmentor['backbone'].get('type') == 'TIMMBackbone' else None
    return model


def check_memory(sizes: Sizes, total: int | None) -> list[Finding]:
    """Estimated memory of one GPU against what there is (None: unknown)."""
    parts = ', '.join(f'{name} {value / GB:.2f}' for name, value in (
        ('weights and buffers', sizes.state), ('gradients', sizes.trained),
        ('optimiser', sizes.momenta), ('activations', sizes.activations),
        ("teacher's outputs", sizes.teacher)))
    text = (f'about {sizes.step / GB:.1f} GB for one process ({parts}). Measured: the tensors that '
            "autograd saves in one student forward of a batch's shape; not counted: workspace of "
            'convolutions, fragmentation (add a fifth)')
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
