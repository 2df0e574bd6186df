# The names of release 0.1.0, for configs that inherit this file; new ones inherit ../method.py. As
# it was, your leaf joins lists that your config has too:
#   custom_imports = dict(imports=[*_base_.custom_imports.imports, 'mmseg_esl.register'])
#   custom_hooks = [*_base_.custom_hooks, *_base_.esl_hooks]
_base_ = '../method.py'
esl = _base_.method
esl_hooks = [
    dict(type='TeacherEMAHook', momentum=0.99),  # [0] and [1] may be updated in place
    _base_.method_hooks.parts,
    _base_.method_hooks.diagnostics,
    _base_.method_hooks.run_state,
    _base_.method_hooks.finite_guard,
]
