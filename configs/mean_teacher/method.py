# What Mean Teacher adds to a supervised config: an average, to which the student is drawn.
# Keys: MeanTeacherTrainCfg in mmseg_esl/methods/mean_teacher.py.
_base_ = '../_base_/method_hooks.py'
method = dict(
    type='MeanTeacher',
    semi_train_cfg=dict(
        consistency='mse',  # or: hard, with consistency_weight=1 and ema_schedule='rising'
        consistency_weight=100.0,
        ema_momentum=0.99,
        ema_schedule='constant'),  # the release's
    semi_test_cfg=dict(predict_on='teacher'))
method_hooks = dict(checkpoint=dict(save_best='teacher/mIoU'))
