# What CutMix-Seg adds to a supervised config: a mix of two images, and the mix of what a teacher
# says of each. Keys: CutMixSegTrainCfg in mmseg_esl/methods/cutmix_seg.py.
_base_ = '../_base_/method_hooks.py'
method = dict(
    type='CutMixSeg',
    semi_train_cfg=dict(
        consistency='mse',  # or: hard, with threshold=0, ema_schedule='rising', cutmix='batch'
        consistency_weight=1.0,
        threshold=0.97,
        counting='rate',  # or: pixel
        ema_momentum=0.99,
        ema_schedule='constant',
        cutmix='aspect'),
    semi_test_cfg=dict(predict_on='teacher'))
method_hooks = dict(checkpoint=dict(save_best='teacher/mIoU'))
