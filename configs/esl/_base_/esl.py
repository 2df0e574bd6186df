# As in release 0.1.0: ESL beside any mmseg config; new ones inherit ../method.py. In the leaf:
#   model = dict(_delete_=True, segmentor=_base_.model, **_base_.esl)
_base_ = './esl_parts.py'
custom_imports = dict(imports=['mmseg_esl.register'], allow_failed_imports=False)
custom_hooks = _base_.esl_hooks
