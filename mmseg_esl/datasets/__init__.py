"""Data of a semi-supervised run: two datasets in one, their batches, and an empty label map."""

from .sampler import SemiBatchSampler
from .semi import SemiDataset
from .transforms import LoadEmptyAnnotations
from .unlabeled import UnlabeledDataset

__all__ = ['LoadEmptyAnnotations', 'SemiBatchSampler', 'SemiDataset', 'UnlabeledDataset']
