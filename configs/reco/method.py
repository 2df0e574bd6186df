# What ReCo adds to a supervised config: ClassMix, and a contrast of classes within the batch.
# Colours want kornia: pip install "mmseg_esl[strong]". Keys: ReCoTrainCfg in
# mmseg_esl/methods/reco.py.
_base_ = '../_base_/method_hooks.py'
method = dict(
    type='ReCo',
    # the head reads what DeepLabV3+'s decoder reads; with other decoders: decode_head.conv_seg
    embedding='decode_head.sep_bottleneck.0.depthwise_conv',
    projector=dict(type='RepresentationHead', channels=256, num_convs=1, dropout=0.0),
    strong_view=dict(
        type='KorniaStrongView', jitter=(0.25, 0.25, 0.25, 0.25), jitter_prob=0.8, grey_prob=0.0,
        blur_prob=0.5, blur_sigma=(0.15, 1.15)),
    semi_train_cfg=dict(
        mixing='classmix',  # or: cutmix
        rescale=(0.5, 1.5),
        strong_threshold=0.97,
        weak_threshold=0.7,
        num_anchors=256,
        num_negatives=512,
        temperature=0.5,
        ema_momentum=0.99),
    semi_test_cfg=dict(predict_on='teacher'))
method_hooks = dict(checkpoint=dict(save_best='teacher/mIoU'))
