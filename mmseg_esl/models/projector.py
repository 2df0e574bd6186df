"""The projector P: decoder features -> embeddings for the contrast (paper Sec. 3.1)."""
from __future__ import annotations

from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from mmseg.registry import MODELS
from torch import Tensor, nn


@MODELS.register_module()
class ESLProjector(BaseModule):
    """Three Conv-BN-ReLU blocks (paper); kernel 1x1, inner width and last ReLU are our choice.

    Args:
        in_channels: channels of the tapped features.
        channels: L, width of every block; 512 in the paper.
        num_convs: number of blocks; 3 in the paper.
        kernel_size: 1 by default: 3x3 costs nine times as much at stride 4.
        norm_cfg: the segmentor's norm layer by default (set by the wrapper).
        init_cfg: mmengine initialisation; Kaiming by ConvModule's default.
    """

    def __init__(self, in_channels: int, channels: int = 512, num_convs: int = 3,
                 kernel_size: int = 1, norm_cfg: dict | None = None, init_cfg=None):
        super().__init__(init_cfg)
        norm_cfg = norm_cfg or dict(type='BN', requires_grad=True)
        widths = [in_channels] + [channels] * num_convs
        self.in_channels, self.out_channels = in_channels, widths[-1]
        self.convs = nn.Sequential(*[
            ConvModule(a, b, kernel_size, padding=kernel_size // 2, norm_cfg=norm_cfg)
            for a, b in zip(widths, widths[1:])
        ])

    def forward(self, x: Tensor) -> Tensor:
        """``(B, in_channels, h, w)`` -> ``(B, channels, h, w)``."""
        return self.convs(x)


def build_projector(module: nn.Module, path: str, cfg: dict, norm_cfg: dict | None) -> nn.Module:
    """An ESLProjector on a module's input.

    Args:
        module: the one whose input it reads. path: what a user calls it.
        cfg: the projector's config; ``in_channels`` and ``norm_cfg`` are filled in.
        norm_cfg: of the segmentor's head.

    Raises:
        ValueError: the module does not say how wide its input is.
    """
    width = cfg.get('in_channels', getattr(module, 'in_channels', None))
    if width is None:
        raise ValueError(f"'{path}' has no in_channels: set projector.in_channels")
    return MODELS.build({'type': 'ESLProjector', **cfg, 'in_channels': width,
                         'norm_cfg': cfg.get('norm_cfg', norm_cfg)})
