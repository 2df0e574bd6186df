# What PseudoSeg adds to a supervised config: class maps that label along with the decoder.
# Colours want kornia: pip install "mmseg_esl[strong]".
# Keys: PseudoSegTrainCfg in mmseg_esl/methods/pseudoseg.py.
_base_ = '../_base_/method_hooks.py'
method = dict(
    type='PseudoSeg',
    strong_view=dict(type='KorniaStrongView', jitter_prob=1.0, grey_prob=0.0, blur_prob=0.0),
    semi_train_cfg=dict(
        fusion=0.5,
        temperature=0.5,
        unlabeled_weight=1.0,
        cutout=100,
        background=True))  # class 0 is what no other class is; False: there is no such class
method_hooks = dict(checkpoint=dict(save_best='student/mIoU'))
