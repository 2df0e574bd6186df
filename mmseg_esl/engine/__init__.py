"""Hooks, loops and metrics."""
from .hooks.audit_hook import PseudoLabelAuditHook
from .hooks.channels_last_hook import ChannelsLastHook
from .hooks.checkpoint_hook import SemiCheckpointHook
from .hooks.compile_hook import CompileHook
from .hooks.diagnostics_hook import DiagnosticsHook
from .hooks.finite_guard import FiniteGuardHook
from .hooks.part_init_hook import PartInitHook
from .hooks.profiler_hook import StepProfilerHook
from .hooks.protocol_hook import ProtocolHook
from .hooks.step_hook import StepHook, TeacherEMAHook
from .loops.train_loop import SemiTrainLoop
from .loops.val_loop import SemiValLoop, TeacherStudentValLoop
from .metrics import PerClassIoUMetric
from .optimizer import StudentOptimWrapperConstructor
from .resume.run_state import RunStateHook

__all__ = [
    'ChannelsLastHook', 'CompileHook', 'DiagnosticsHook', 'FiniteGuardHook', 'PartInitHook',
    'PerClassIoUMetric', 'ProtocolHook', 'PseudoLabelAuditHook', 'RunStateHook',
    'SemiCheckpointHook', 'SemiTrainLoop', 'SemiValLoop', 'StepHook', 'StepProfilerHook',
    'StudentOptimWrapperConstructor', 'TeacherEMAHook', 'TeacherStudentValLoop'
]
