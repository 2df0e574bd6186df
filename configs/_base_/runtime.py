# What all experiments share, whatever their data, network and method.
_base_ = 'mmseg::_base_/default_runtime.py'
custom_imports = dict(imports=['mmseg_esl.register'], allow_failed_imports=False)
train_cfg = dict(type='SemiTrainLoop')
val_cfg = dict(type='SemiValLoop')
test_cfg = dict(type='TestLoop')
val_evaluator = dict(type='PerClassIoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator
default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50, log_metric_by_epoch=False),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(  # the last one and the best one stay
        type='SemiCheckpointHook', by_epoch=False, max_keep_ckpts=2),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    visualization=dict(type='SegVisualizationHook'),
    protocol=dict(type='ProtocolHook'))
