# Hooks that every method wants, by name: a leaf says `default_hooks = _base_.method_hooks`, and one
# that changes a hook says, say, `default_hooks = dict(finite_guard=dict(max_in_a_row=3))`.
# mmengine registers every name in default_hooks, so a custom_hooks list of yours is not touched.
method_hooks = dict(
    step=dict(type='StepHook'),
    diagnostics=dict(type='DiagnosticsHook'),
    run_state=dict(type='RunStateHook'),
    finite_guard=dict(type='FiniteGuardHook'),
    checkpoint=dict(type='SemiCheckpointHook'))
