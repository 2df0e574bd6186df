"""Backbones of Hugging Face's transformers, from a folder on this machine or from a dict."""
from __future__ import annotations

import os.path as osp
from contextlib import contextmanager, nullcontext

import torch
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
        ValueError: the weights are of another network, or the model gives no maps.
    """

    def __init__(self, config: str | dict, pretrained: str | None = None, **changes):
        super().__init__()
        try:
            from transformers import AutoBackbone, AutoConfig
        except ImportError as error:
            raise ImportError(
                'HFBackbone needs transformers 4.30 or later: pip install transformers') from error
        changes = {key: list(value) if isinstance(value, tuple) else value
                   for key, value in changes.items()}
        if isinstance(config, dict):
            config = AutoConfig.for_model(**{**config, **changes})
        else:
            config = AutoConfig.from_pretrained(
                _there('config', config), local_files_only=True, trust_remote_code=False, **changes)
        config._attn_implementation = None  # the file's may name code on a server
        with torch.device('meta') if pretrained else nullcontext():  # for its class alone
            self.net = AutoBackbone.from_config(config, trust_remote_code=False)
        if pretrained:
            self.net = _load(type(self.net), _there('pretrained', pretrained), config)

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
    if wrong:
        raise ValueError(
            f"backbone.pretrained='{folder}' is not of this {kind.__name__}: {len(wrong)} of its "
            f'tensors are missing or of another shape ({", ".join(wrong[:3])}, ...). Give '
            'backbone.config the same folder, or backbone.pretrained the folder of this model')
    return net


@contextmanager
def _quiet():
    """No bar and no table of what a classifier's file holds besides; errors are raised."""
    from transformers.utils import logging
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        logging.enable_progress_bar()
