# What AugSeg adds to a supervised config: a moving average whose labels teach images of changed
# intensity, mixed with one another and with labelled patches.
# Keys: AugSegTrainCfg in mmseg_esl/methods/augseg.py.
_base_ = '../_base_/method_hooks.py'
method = dict(
    type='AugSeg',
    strong_view=dict(type='RandomIntensity', most=3),
    semi_train_cfg=dict(
        threshold=0.95,  # on Cityscapes 0: every pixel
        unlabeled_weight=1.0,
        copy_steps=0,  # the teacher is a copy in so many first steps; the release: one epoch
        extra_weak=False,
        ema_momentum=0.999))  # on Cityscapes 0.996
method_hooks = dict(checkpoint=dict(save_best='teacher/mIoU'))
