"""Validate a method's networks side by side."""
from __future__ import annotations

from mmengine.hooks import IterTimerHook
from mmengine.logging import print_log
from mmengine.runner import ValLoop
from mmseg.registry import LOOPS

from ..device_memory import VALIDATION, memory_explained
from ..unwrap import unwrap
from .own_output import own_output


@LOOPS.register_module()
class SemiValLoop(ValLoop):
    """mmengine's ValLoop, once per plain network: metrics get its name, as in ``teacher/mIoU``.

    ``save_best='teacher/mIoU'`` then works as expected. So do the files that metrics and the
    visualiser write: each network has its own, see :func:`.own_output.own_output`.

    Args:
        networks: which to evaluate, in this order. None: all that are whole segmentors, the one
            that predicts (``semi_test_cfg.predict_on``) first.

    Raises:
        torch.cuda.OutOfMemoryError: of an image, with what to change.
        ValueError: ``networks`` names one that the method has not.
    """

    def __init__(self, runner, dataloader, evaluator, fp16: bool = False, networks=None):
        super().__init__(runner, dataloader, evaluator, fp16)
        self.networks = networks

    def run(self) -> dict:
        """Run all networks over the data; returns (and logs) every metric."""
        model = unwrap(self.runner.model)
        cfg, metrics = model.semi_test_cfg, {}
        configured, there = cfg['predict_on'], model.named(plain=True)
        names = self.networks or sorted(there, key=lambda name: name != configured)
        unknown = [name for name in names if name not in there]
        if unknown:
            raise ValueError(f'val_cfg.networks: {type(model).__name__} has no network '
                             f'{", ".join(unknown)}; there are {", ".join(there)}')
        self.runner.call_hook('before_val')
        self.runner.call_hook('before_val_epoch')
        self.runner.model.eval()
        try:
            for name in names:
                cfg['predict_on'] = name
                self._announce(name)
                with own_output(self.runner, self.evaluator, name):
                    for idx, data_batch in enumerate(self.dataloader):
                        with memory_explained('an image of the validation', VALIDATION):
                            self.run_iter(idx, data_batch)
                    found = self.evaluator.evaluate(len(self.dataloader.dataset))
                metrics.update({f'{name}/{key}': value for key, value in found.items()})
        finally:
            cfg['predict_on'] = configured
        self.runner.call_hook('after_val_epoch', metrics=metrics)
        self.runner.call_hook('after_val')
        return metrics

    def _announce(self, name: str) -> None:
        """Say whose progress and table follow; the time that is left is of this network alone."""
        print_log(f'validation of the {name} on {len(self.dataloader.dataset)} images', 'current')
        for hook in self.runner.hooks:
            if isinstance(hook, IterTimerHook):
                hook.after_val_epoch(self.runner)
                hook.before_val_epoch(self.runner)


@LOOPS.register_module()
class TeacherStudentValLoop(SemiValLoop):
    """The name that SemiValLoop had in release 0.1.0; configs that use it go on working."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        print_log("TeacherStudentValLoop is now SemiValLoop: write val_cfg=dict(type="
                  "'SemiValLoop'). It works as it did", 'current')
