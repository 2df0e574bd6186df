"""Parts that methods own."""
from ..stack import install

install()  # a method in a file of its own may import this before anything else

from .attention import ClassMapAttention  # noqa: E402
from .aux_decoders import AuxDecoders  # noqa: E402
from .class_queues import ClassQueues  # noqa: E402
from .correlation import CorrelationHead  # noqa: E402
from .dpt_head import MapDPTHead  # noqa: E402
from .flaw_detector import FlawDetector  # noqa: E402
from .hf_backbone import HFBackbone  # noqa: E402
from .intensity import RandomIntensity  # noqa: E402
from .losses import OHEMCrossEntropyLoss  # noqa: E402
from .part_memory import PartMemory  # noqa: E402
from .projector import ESLProjector  # noqa: E402
from .representation import RepresentationHead  # noqa: E402
from .seg_head import ESLSegHead  # noqa: E402
from .strong_view import KorniaStrongView  # noqa: E402
from .timm_vit import TIMMPlainViT  # noqa: E402

__all__ = ['AuxDecoders', 'ClassMapAttention', 'ClassQueues', 'CorrelationHead', 'ESLProjector',
           'ESLSegHead', 'FlawDetector', 'HFBackbone', 'KorniaStrongView', 'MapDPTHead',
           'OHEMCrossEntropyLoss', 'PartMemory', 'RandomIntensity', 'RepresentationHead',
           'TIMMPlainViT']
