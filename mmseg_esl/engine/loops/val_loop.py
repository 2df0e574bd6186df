"""Validate the teacher and the student side by side."""
from __future__ import annotations

from mmengine.runner import ValLoop
from mmseg.registry import LOOPS

from ..hooks.teacher_hook import unwrap


@LOOPS.register_module()
class TeacherStudentValLoop(ValLoop):
    """mmengine's ValLoop, once per network: metrics get the prefixes ``teacher/``, ``student/``.

    ``save_best='teacher/mIoU'`` then works as expected.

    Args:
        networks: which to evaluate, in this order.
    """

    def __init__(self, runner, dataloader, evaluator, fp16: bool = False,
                 networks=('teacher', 'student')):
        super().__init__(runner, dataloader, evaluator, fp16)
        self.networks = tuple(networks)

    def run(self) -> dict:
        """Run all networks over the data; returns (and logs) every metric."""
        self.runner.call_hook('before_val')
        self.runner.call_hook('before_val_epoch')
        self.runner.model.eval()
        cfg = unwrap(self.runner.model).semi_test_cfg
        configured, metrics = cfg['predict_on'], {}
        try:
            for name in self.networks:
                cfg['predict_on'] = name
                for idx, data_batch in enumerate(self.dataloader):
                    self.run_iter(idx, data_batch)
                found = self.evaluator.evaluate(len(self.dataloader.dataset))
                metrics.update({f'{name}/{key}': value for key, value in found.items()})
        finally:
            cfg['predict_on'] = configured
        self.runner.call_hook('after_val_epoch', metrics=metrics)
        self.runner.call_hook('after_val')
        return metrics
