"""The decoder of DPT (Ranftl et al., 2021) on maps, as other decoders take them."""
from __future__ import annotations

from typing import Sequence

from mmseg.models.decode_heads import DPTHead
from mmseg.registry import MODELS
from torch import Tensor


@MODELS.register_module()
class MapDPTHead(DPTHead):
    """mmseg's DPTHead for backbones that give maps ``(B, D, h, w)``, not pairs with class tokens.

    So features can be perturbed on their way into it. Its class tokens are ignored anyhow: keep
    ``readout_type='ignore'``.
    """

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        return super().forward([(level, None) for level in inputs])
