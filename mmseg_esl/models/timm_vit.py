"""Plain vision transformers of timm (DINOv2, DINOv3) as backbones: some blocks' tokens as maps."""
from __future__ import annotations

import sys
from typing import Sequence

import torch.nn.functional as F
from mmengine.model import BaseModule
from mmseg.registry import MODELS
from torch import Tensor


@MODELS.register_module()
class TIMMPlainViT(BaseModule):
    """Patch tokens of some blocks, the final norm applied to each, without class and register
    tokens: what UniMatch V2's release decodes.

    ``init_cfg=dict(type='Pretrained', checkpoint=...)`` takes a file of Meta's releases
    (facebookresearch/dinov2, dinov3) or of timm; positions of another grid are resampled. Images
    whose sides are no multiples of the patch are resized to the nearest ones, as that release does
    in its evaluation; mmseg brings the logits back.

    Args:
        model_name: timm's, such as 'vit_small_patch14_dinov2' or 'vit_small_patch16_dinov3_qkvb'.
        img_size: side of the images that the stored positions are for; other sizes resample them
            in each forward. DINOv3's positions are computed and have no size.
        out_indices: blocks, from 0.
        **kwargs: timm's (``drop_path_rate``, ...).

    Returns of ``forward``:
        list of ``(B, D, H / patch, W / patch)``, one a block, for images ``(B, 3, H, W)``.

    Raises:
        ImportError: timm is not installed.
        ValueError: a checkpoint of others' lacks a tensor, or has another shape (on loading).
    """

    def __init__(self, model_name: str, img_size: int = 518,
                 out_indices: Sequence[int] = (2, 5, 8, 11), init_cfg=None, **kwargs):
        super().__init__(init_cfg)
        try:
            import timm
        except ImportError as error:
            raise ImportError(f'the backbone {model_name} is of timm: pip install timm') from error
        self.model_name, self.out_indices = model_name, list(out_indices)
        self.vit = timm.create_model(model_name, pretrained=False, num_classes=0,
                                     img_size=img_size, dynamic_img_size=True, **kwargs)
        self._register_load_state_dict_pre_hook(self._translate)

    def forward(self, images: Tensor) -> list[Tensor]:
        size = [max(1, round(side / patch)) * patch
                for side, patch in zip(images.shape[2:], self.vit.patch_embed.patch_size)]
        if size != list(images.shape[2:]):
            images = F.interpolate(images, size, mode='bilinear', align_corners=True)
        return self.vit.forward_intermediates(
            images, indices=self.out_indices, norm=True, intermediates_only=True)

    def _translate(self, state: dict, prefix: str, *_) -> None:
        """Others' names to ours, and positions to this grid, in place."""
        own = prefix + 'vit.'
        ours = any(key.startswith(own) for key in state)
        start = own if ours else prefix
        found = {key: state.pop(key) for key in list(state) if key.startswith(start)}
        if not found:  # a part of a network that this is no part of
            return
        # timm's own: it knows Meta's names
        convert = sys.modules[type(self.vit).__module__].checkpoint_filter_fn
        found = convert({key[len(start):]: value for key, value in found.items()}, self.vit)
        if not ours:
            self._check(found)
        state.update({own + key: value for key, value in found.items()})

    def _check(self, found: dict) -> None:
        """mmengine would only warn, and train from random numbers."""
        wrong = [key for key, value in self.vit.state_dict().items()
                 if key not in found or found[key].shape != value.shape]
        if wrong:
            raise ValueError(
                f'the checkpoint is not of {self.model_name}: {len(wrong)} of its tensors are '
                f'missing or of another shape ({", ".join(wrong[:3])}, ...). Give '
                'backbone.init_cfg.checkpoint the file of this network, or backbone.model_name '
                "the file's")
