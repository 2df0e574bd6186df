"""Whether the pretrained weights that a config names can be had."""

from __future__ import annotations

import glob
import os.path as osp
import urllib.error
import urllib.request

from .data import _walk
from .findings import Finding
from .method import method_of

SECONDS = 10
PLACES = ('.pretrained', '.init_cfg.checkpoint', '.pretrained_cfg_overlay.file')


def named_weights(cfg) -> list[str]:
    """Every checkpoint that the config would load, once."""
    found = [value for place, value in _walk(cfg.model, 'model')
             if isinstance(value, str) and place.endswith(PLACES)]
    return list(dict.fromkeys([*found, *filter(None, [cfg.get('load_from')])]))


def _downloaded(cfg) -> list[str]:
    """Keys by which a library (timm) is asked for its weights."""
    return [place for place, value in _walk(cfg.model, 'model')
            if place.endswith('.pretrained') and value is True]


def from_scratch(cfg) -> bool:
    """Whether all networks begin from random numbers."""
    return not named_weights(cfg) and not _downloaded(cfg)


def check_weights(cfg) -> list[Finding]:
    """Local files exist, addresses answer (or have been downloaded before)."""
    names = named_weights(cfg)
    if not names:
        downloaded = _downloaded(cfg)
        if downloaded:
            return [Finding('note', 'weights', f'{downloaded[0]}=True: the library downloads them')]
        return [_nothing(cfg)]
    return [_reach(name) for name in names]


def _nothing(cfg) -> Finding:
    """What it means for a method that its networks begin from random numbers."""
    said = 'none: the backbone starts from random numbers'
    cls, semi = method_of(cfg)
    if cls is None or not any(cls.passes(semi)['unlabeled']):  # nobody labels images for it
        return Finding('note', 'weights', f'{said}: pretrained=... would help most where labels '
                       'are few')
    if semi.warmup_iters:
        return Finding('note', 'weights', f'{said}, and learns from labelled images alone for '
                       f'{semi.warmup_iters} iterations')
    parts = 'PartInitHook' in cls.hooks_of(semi)
    return Finding('warning', 'weights', f'{said}, whose labels and features are worth little at '
                   'first', 'pretrained=..., or load_from=...; else semi_train_cfg.warmup_iters'
                   + ' and PartInitHook.begin after it' * parts)


def _is_of_transformers(folder: str) -> bool:
    """Whether HFBackbone can load from a folder."""
    return osp.isfile(osp.join(folder, 'config.json')) and bool(
        glob.glob(osp.join(glob.escape(folder), '*.safetensors')))


def _reach(name: str) -> Finding:
    try:
        where = resolve(name)
    except KeyError:
        return Finding('error', 'weights', f"mmengine knows no '{name}'", 'correct the name')
    if '://' not in where:
        if osp.isfile(where) or _is_of_transformers(where):
            return Finding('ok', 'weights', f'{name} is there')
        lacks = ('is a folder without config.json and *.safetensors' if osp.isdir(where)
                 else 'does not exist')
        return Finding('error', 'weights', f"'{where}' {lacks}", 'correct the path')
    if osp.isfile(cached(where)):
        return Finding('ok', 'weights', f'{name} has been downloaded before')
    if not where.startswith(('http://', 'https://')):
        return Finding('note', 'weights', f'{name}: not looked at (only files and http are)')
    try:
        request = urllib.request.Request(where, method='HEAD')
        with urllib.request.urlopen(request, timeout=SECONDS):
            return Finding('ok', 'weights', f'{name} answers')
    except (OSError, ValueError) as error:  # URLError and HTTPError are OSErrors
        return Finding('error', 'weights', f'{name} ({where}) cannot be reached: {error}',
                       f'download it elsewhere and put it at {cached(where)}')


def resolve(name: str) -> str:
    """The address or path behind a checkpoint's name; KeyError for an unknown model."""
    from mmengine.runner import checkpoint
    kind, _, model = name.partition('://')
    if kind in ('open-mmlab', 'openmmlab'):
        model = checkpoint.get_deprecated_model_names().get(model, model)
        where = checkpoint.get_external_models()[model]
        return where if '://' in where else osp.join(checkpoint._get_mmengine_home(), where)
    if kind == 'mmcls':
        return checkpoint.get_mmcls_models()[model]
    if kind in ('torchvision', 'modelzoo'):
        return checkpoint.get_torchvision_models()[model]
    return osp.expanduser(name) if not model else name


def cached(url: str) -> str:
    """Where torch.hub keeps what it has downloaded."""
    import torch
    return osp.join(torch.hub.get_dir(), 'checkpoints', osp.basename(url.partition('?')[0]))
