# What GCT adds to a supervised config: a second network, and a detector of flaws with its own Adam.
# Keys: GCTTrainCfg in mmseg_esl/methods/gct.py.
_base_ = '../_base_/method_hooks.py'
method = dict(
    type='GCT',
    semi_train_cfg=dict(
        dc_weight=100.0,
        fc_weight=1.0,
        fd_weight=10.0,
        flaw_threshold=0.6,
        dc_ramp_iters=3500),  # 3 epochs of VOC 1/8
    semi_test_cfg=dict(predict_on='student'))
method_hooks = dict(checkpoint=dict(save_best='student/mIoU'))
method_optim = dict(  # of StudentOptimWrapperConstructor
    networks=dict(flaw_detector=dict(optimizer=dict(type='Adam', lr=1e-4, betas=(0.9, 0.99)))))
