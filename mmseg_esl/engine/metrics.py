"""mmseg's IoU, with the classes kept."""
from __future__ import annotations

import torch
from mmseg.evaluation import IoUMetric
from mmseg.registry import METRICS

from .metric_names import class_names


@METRICS.register_module()
class PerClassIoUMetric(IoUMetric):
    """IoUMetric that also returns ``IoU.<class>`` in per cent (nan for a class never seen).

    Of a class's name, characters that no logging backend holds become ``_``.
    """

    def compute_metrics(self, results: list) -> dict:
        metrics = super().compute_metrics(results)
        if not self.format_only:
            inter, union = (torch.stack(area).sum(dim=0) for area in list(zip(*results))[:2])
            iou = (inter / union * 100).tolist()
            metrics.update({f'IoU.{c}': round(v, 2)
                            for c, v in zip(class_names(self.dataset_meta['classes']), iou)})
        return metrics
