# What CCT adds to a supervised config: classifiers of perturbed features, which must agree with the
# main one. Keys: CCTTrainCfg in mmseg_esl/methods/cct.py; kinds and numbers of the decoders:
# AuxDecoders in mmseg_esl/models/aux_decoders.py.
_base_ = '../_base_/method_hooks.py'
method = dict(
    type='CCT',
    semi_train_cfg=dict(
        consistency_weight=30.0,
        ramp_shape='sigmoid'),  # over ramp_iters, if that is set
    semi_test_cfg=dict(predict_on='student'))
method_hooks = dict(checkpoint=dict(save_best='student/mIoU'))
