# What the paper's experiments share: DeepLabV3+ with stride 8, SGD and poly 0.9 down to zero, 8
# labelled and 8 unlabelled images a step, teacher and student evaluated side by side. The data sets
# stand in voc.py, cityscapes.py and coco.py, which inherit this. Which of it is the paper's and
# which our choice: docs/reproduce.md.
_base_ = [
    'mmseg::_base_/models/deeplabv3plus_r50-d8.py',
    'mmseg::_base_/default_runtime.py',
    './esl.py',
]
model = dict(_delete_=True, segmentor=_base_.model, **_base_.esl)
model['segmentor']['decode_head'].update(align_corners=True)  # crops are odd: 513, 769
model['segmentor']['decode_head']['loss_decode']['avg_non_ignore'] = True  # mean over valid pixels
model['segmentor']['auxiliary_head'].update(align_corners=True)  # frozen: Eq. 11 has no such term

# For leaves: model = dict(segmentor=_base_.r101)
r101 = dict(pretrained='open-mmlab://resnet101_v1c', backbone=dict(depth=101))

# For leaves: the supervised baseline. It stands in the same wrapper, so that lists, batches,
# schedule and evaluation are those of ESL. The loss moves the student alone, so the student is the
# plain network that the paper's tables call 'Sup baseline', and is what is kept and tested; the
# teacher, its running average, is logged beside it.
supervised = dict(
    model=dict(semi_train_cfg=dict(variant='sup'), semi_test_cfg=dict(predict_on='student')),
    train_dataloader=dict(batch_size=8, batch_sampler=dict(total_unlabeled=0)),
    default_hooks=dict(checkpoint=dict(save_best='student/mIoU')))

images_per_step = 8  # unlabelled ones, of all GPUs together: epochs count over them
train_dataloader = dict(
    batch_size=16,  # of all GPUs together too
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    batch_sampler=dict(type='SemiBatchSampler', total_labeled=8, total_unlabeled=8),
    dataset=dict(type='SemiDataset'))
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False))
test_dataloader = val_dataloader
val_evaluator = dict(type='PerClassIoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator

# Decoder and projector learn ten times faster than the backbone.
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='StudentOptimWrapperConstructor',
    optimizer=dict(type='SGD', momentum=0.9),
    paramwise_cfg=dict(custom_keys=dict(decode_head=dict(lr_mult=10), projector=dict(lr_mult=10))))
param_scheduler = [dict(type='PolyLR', power=0.9, eta_min=0.0, by_epoch=False)]  # to max_iters

train_cfg = dict(type='SemiTrainLoop')
val_cfg = dict(type='TeacherStudentValLoop')
test_cfg = dict(type='TestLoop')
custom_hooks = [*_base_.esl_hooks, dict(type='ProtocolHook')]
default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50, log_metric_by_epoch=False),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(  # the last one and the best one stay
        type='SemiCheckpointHook', by_epoch=False, save_best='teacher/mIoU', max_keep_ckpts=2),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    visualization=dict(type='SegVisualizationHook'))
