"""Hooks, loops and metrics."""
from .diagnostics_hook import DiagnosticsHook
from .metrics import PerClassIoUMetric
from .optimizer import StudentOptimWrapperConstructor
from .part_init_hook import PartInitHook
from .teacher_hook import TeacherEMAHook
from .val_loop import TeacherStudentValLoop

__all__ = [
    'DiagnosticsHook', 'PartInitHook', 'PerClassIoUMetric',
    'StudentOptimWrapperConstructor', 'TeacherEMAHook', 'TeacherStudentValLoop'
]
