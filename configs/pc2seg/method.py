# What PC2Seg-style training adds to a supervised config: consistency of labels, contrast of pixels.
# A reconstruction: see README.md. Colours want kornia: pip install "mmseg_esl[strong]".
# Keys: PC2SegTrainCfg in mmseg_esl/methods/pc2seg.py.
_base_ = '../_base_/method_hooks.py'
method = dict(
    type='PC2Seg',
    strong_view=dict(type='KorniaStrongView', jitter_prob=1.0, grey_prob=0.0, blur_prob=0.0),
    embedding='decode_head.conv_seg',  # the projector reads what the classifier reads
    projector=dict(channels=128),
    semi_train_cfg=dict(
        labels_by='student',  # or: teacher, its moving average
        consistency_weight=1.0,
        contrast_weight=0.1,
        num_negatives=200,
        temperature=0.1,
        negatives_from='other_images',  # or: batch
        debias='weighting'))  # or: sampling, none
method_hooks = dict(checkpoint=dict(save_best='student/mIoU'))
