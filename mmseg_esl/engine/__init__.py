"""Hooks, loops and metrics."""
from .audit_hook import PseudoLabelAuditHook
from .channels_last_hook import ChannelsLastHook
from .checkpoint_hook import SemiCheckpointHook
from .compile_hook import CompileHook
from .diagnostics_hook import DiagnosticsHook
from .finite_guard import FiniteGuardHook
from .metrics import PerClassIoUMetric
from .optimizer import StudentOptimWrapperConstructor
from .part_init_hook import PartInitHook
from .profiler_hook import StepProfilerHook
from .protocol_hook import ProtocolHook
from .run_state import RunStateHook
from .teacher_hook import TeacherEMAHook
from .train_loop import SemiTrainLoop
from .val_loop import TeacherStudentValLoop

__all__ = [
    'ChannelsLastHook', 'CompileHook', 'DiagnosticsHook', 'FiniteGuardHook', 'PartInitHook',
    'PerClassIoUMetric', 'ProtocolHook', 'PseudoLabelAuditHook', 'RunStateHook',
    'SemiCheckpointHook', 'SemiTrainLoop', 'StepProfilerHook', 'StudentOptimWrapperConstructor',
    'TeacherEMAHook', 'TeacherStudentValLoop'
]
