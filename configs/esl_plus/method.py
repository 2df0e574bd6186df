# What ESL+ (our recipe) adds to a supervised config: ESL, and strong views in other colours.
# Colours want kornia: pip install "mmseg_esl[strong]".
# Keys: ESLPlusTrainCfg in mmseg_esl/methods/esl_plus.py, and ESL's.
_base_ = '../esl/method.py'
method = dict(
    type='ESLPlus',
    strong_view=dict(type='KorniaStrongView'),
    semi_train_cfg=dict(
        sce_weight=1.0,
        weighting='confidence',  # or: none, certainty, threshold
        views=1,
        cutmix='image'))
