"""Data of a semi-supervised run: two datasets in one, their batches, and an empty label map."""

from ..stack.shims import serve_mmcv_ext

serve_mmcv_ext()  # a spawned loader worker imports this package and nothing before it

from .bad_samples import BadDataError  # noqa: E402
from .pseudo import PseudoLabeledDataset  # noqa: E402
from .sampler import SemiBatchSampler  # noqa: E402
from .semi import SemiDataset  # noqa: E402
from .shards import UnlabeledShards  # noqa: E402
from .strong import NoiseCutOut, StrongColours  # noqa: E402
from .transforms import EvaluatedCenterCrop, LoadEmptyAnnotations, RareClassCrop  # noqa: E402
from .unlabeled import UnlabeledDataset  # noqa: E402

__all__ = [
    'BadDataError', 'EvaluatedCenterCrop', 'LoadEmptyAnnotations', 'NoiseCutOut',
    'PseudoLabeledDataset', 'RareClassCrop', 'SemiBatchSampler', 'SemiDataset', 'StrongColours',
    'UnlabeledDataset', 'UnlabeledShards'
]
