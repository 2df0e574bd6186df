# What ESL adds to a supervised config. Beside one of yours:
#   _base_ = ['my_supervised.py', 'path/to/configs/esl/method.py']
#   custom_imports = dict(imports=['mmseg_esl.register'], allow_failed_imports=False)
#   model = dict(_delete_=True, segmentor=_base_.model, **_base_.method)
#   default_hooks = _base_.method_hooks
# Keys, and which are the paper's: ESLTrainCfg in mmseg_esl/methods/esl.py.
_base_ = '../_base_/method_hooks.py'
method = dict(
    type='ESL',
    embedding='decode_head.conv_seg',  # the projector reads what the classifier reads
    projector=dict(type='ESLProjector', channels=512, num_convs=3),
    part_memory=dict(type='PartMemory', num_parts=5, queue_length=256, momentum=0.99),
    semi_train_cfg=dict(
        variant='dsl+ctr',  # or: sup, hard, hard+ctr, topk, topk+ctr, dsl
        mass=0.95,
        sce_weight=0.2,
        ctr_weight=0.1,
        confidence=0.95,
        anchor_fraction=0.1,
        num_negatives=255,
        temperature=0.5,
        cutmix_prob=0.5,
        ema_momentum=0.99),
    semi_test_cfg=dict(predict_on='teacher'))
method_hooks = dict(
    parts=dict(type='PartInitHook'),
    checkpoint=dict(save_best='teacher/mIoU'))
