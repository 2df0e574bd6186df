# The supervised baseline: the labelled images alone, on the lists and schedule of the others.
# `train_dataloader = _base_.labeled_only` asks the data for no unlabelled image.
# Keys: SupervisedTrainCfg in mmseg_esl/methods/supervised.py.
_base_ = '../_base_/method_hooks.py'
method = dict(
    type='Supervised',
    semi_train_cfg=dict(average=False),  # True: its moving average beside it, as `teacher`
    semi_test_cfg=dict(predict_on='student'))
method_hooks = dict(checkpoint=dict(save_best='student/mIoU'))
