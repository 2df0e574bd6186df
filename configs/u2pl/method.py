# What U2PL adds to a supervised config: pixels too uncertain for a label serve as negatives.
# Keys: U2PLTrainCfg in mmseg_esl/methods/u2pl.py.
_base_ = '../_base_/method_hooks.py'
method = dict(
    type='U2PL',
    # the head reads what DeepLabV3+'s decoder reads; with other decoders: decode_head.conv_seg
    embedding='decode_head.sep_bottleneck.0.depthwise_conv',
    projector=dict(type='RepresentationHead', channels=256, num_convs=2, dropout=0.1),
    class_queues=dict(type='ClassQueues', length=30000, first_length=50000),
    semi_train_cfg=dict(
        contrast_weight=0.25,  # what the release's 1 comes to on its 4 GPUs; the paper's is 0.1
        unreliable=0.2,
        anchor_confidence=0.3,
        num_anchors=256,
        num_negatives=50,
        temperature=0.5,
        cutmix_prob=0.5,
        ema_momentum=0.99),
    semi_test_cfg=dict(predict_on='teacher'))
method_hooks = dict(checkpoint=dict(save_best='teacher/mIoU'))
