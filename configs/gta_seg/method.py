# What GTA-Seg adds to a supervised config: an assistant that learns the pseudo labels.
# Keys: GTASegTrainCfg in mmseg_esl/methods/gta_seg.py.
_base_ = '../_base_/method_hooks.py'
method = dict(
    type='GTASeg',
    # the student keeps DeepLabV3+'s decoder to itself; with other heads: ('conv_seg', )
    classifier=('sep_bottleneck', 'conv_seg'),
    semi_train_cfg=dict(
        unlabeled_weight=1.0,
        dropped=0.2,
        cutmix_prob=0.5,
        ema_momentum=0.999),
    semi_test_cfg=dict(predict_on='teacher'))
method_hooks = dict(checkpoint=dict(save_best='teacher/mIoU'))
