# The drawn images in a faster layout of memory.
_base_ = '../../../esl/demo/_base_/drawn.py'
# one process a training: two trainings and their workers are more than two cores do at a time
train_dataloader = dict(num_workers=0, persistent_workers=False)
custom_hooks = [
    dict(type='PseudoLabelAuditHook', interval=500, max_images=24), dict(type='ChannelsLastHook')]
