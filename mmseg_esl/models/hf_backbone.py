"""Backbones of Hugging Face's transformers, from a folder on this machine or from a dict."""
from __future__ import annotations

import os.path as osp
import re
from contextlib import contextmanager

from mmengine.model import BaseModule
from mmseg.registry import MODELS
from torch import Tensor


@MODELS.register_module()
class HFBackbone(BaseModule):
    """Maps of a model of transformers that ``AutoBackbone`` knows (Swin, ConvNeXt, DINOv2, ...).

    Nothing is downloaded, no code of the folder runs, and weights are safetensors (our choice).

    Args:
        config: a folder with ``config.json``, or its content as a dict, ``model_type`` in it.
        pretrained: a folder with ``config.json`` and ``*.safetensors``; None: random weights.
        **changes: keys of the model's config, such as ``out_indices=(1, 2, 3, 4)`` (0 is the stem)
            or ``drop_path_rate``.

    Returns of ``forward``:
        tuple of ``(B, C_i, H_i, W_i)``, one a stage, for images ``(B, 3, H, W)``.

    Raises:
        ImportError: transformers is not installed.
        FileNotFoundError: a folder is not there.
        TypeError: a key that the model's config does not have.
        ValueError: the weights are of another network, or the model gives no maps.
    """

    def __init__(self, config: str | dict, pretrained: str | None = None, **changes):
        super().__init__()
        try:
            from transformers import AutoBackbone
        except ImportError as error:
            raise ImportError(
                'HFBackbone needs transformers (tried: 5.24): pip install transformers') from error
        config = _config(config, changes)
        net = AutoBackbone.from_config(config, trust_remote_code=False)
        if pretrained:
            net = _load(type(net), _there('pretrained', pretrained), config)
        self.net = net.float()  # in half precision, as many a file is, nothing here trains

    def init_weights(self) -> None:
        """Nothing: transformers' own method of that name would draw over what was loaded."""

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.net(images).feature_maps)


def _there(key: str, folder: str) -> str:
    if not osp.isfile(osp.join(folder, 'config.json')):
        raise FileNotFoundError(
            f"backbone.{key}='{folder}' is no folder with a config.json. Download the model's "
            'files into it (hf download NAME --local-dir FOLDER)')
    return folder


def _config(config: str | dict, changes: dict):
    """The model's config. transformers itself would pass over a key that is misspelt."""
    from transformers import AutoConfig
    changes = {key: list(value) if isinstance(value, tuple) else value
               for key, value in changes.items()}
    if not isinstance(config, dict):
        made = AutoConfig.from_pretrained(
            _there('config', config), local_files_only=True, trust_remote_code=False, **changes)
    elif 'model_type' in config:
        made = AutoConfig.for_model(**{**config, **changes})
    else:
        raise ValueError("backbone.config has no model_type, such as 'swin'")
    if made.model_type.startswith('timm_'):  # it may ask a server
        raise ValueError("backbone.config is of a model of timm: take type='TIMMBackbone'")
    known = type(made)()
    unknown = sorted(key for key in changes if not hasattr(known, key))
    if unknown:
        raise TypeError(f"HFBackbone, and the config of a '{made.model_type}' model, have no key "
                        f'{", ".join(unknown)}')
    made._attn_implementation = None  # the file's may name code on a server
    return made


def _load(kind, folder: str, config):
    """A file of another network is refused; transformers would train from random numbers."""
    with _quiet():
        # not AutoBackbone.from_pretrained, which asks the hub whether the folder exists
        net, found = kind.from_pretrained(
            folder, config=config, local_files_only=True, use_safetensors=True,
            output_loading_info=True, ignore_mismatched_sizes=True)
    wrong = {*found['missing_keys'], *(key for key, *_ in found['mismatched_keys'])}
    # norms of the maps are no part of a classifier's file, and start as they should
    wrong = sorted(key for key in wrong if 'hidden_states_norms' not in key)
    wrong += _beyond(net, found['unexpected_keys'])
    if wrong:
        raise ValueError(
            f"backbone.pretrained='{folder}' is not of this {kind.__name__}: {len(wrong)} tensors "
            f'are missing, of another shape or too many ({", ".join(wrong[:3])}, ...). Give '
            'backbone.config the same folder, or backbone.pretrained the folder of this model')
    return net


def _beyond(net, keys) -> list[str]:
    """Tensors of layers that the network's lists are too short for: it would be a deeper one's
    beginning. What a file holds besides (a classifier, buffers) has no such place."""
    names = {whole for name, _ in net.named_modules()
             for whole in (name, f'{net.base_model_prefix}.{name}')}
    return sorted(key for key in keys if any(
        key[:at.start()] in names and key[:at.end()] not in names
        for at in re.finditer(r'\.\d+(?=\.)', key)))


@contextmanager
def _quiet():
    """No bar and no table of what a classifier's file holds besides; errors are raised."""
    from transformers.utils import logging
    before, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        if bars:
            logging.enable_progress_bar()
