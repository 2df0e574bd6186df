# What CPS adds to a supervised config: a second network; each labels for the other.
# Keys: CPSTrainCfg in mmseg_esl/methods/cps.py.
_base_ = '../_base_/method_hooks.py'
method = dict(
    type='CPS',
    semi_train_cfg=dict(
        cps_weight=1.5,  # on Cityscapes 6
        mixing=False),  # True, with weights of 1 and 5: CPS + CutMix
    semi_test_cfg=dict(predict_on='student'))
method_hooks = dict(checkpoint=dict(save_best='student/mIoU'))
