# As in release 0.1.0: what the data files beside this one share.
_base_ = './esl_parts.py'
custom_hooks = _base_.esl_hooks
# For leaves of that time: the supervised baseline inside ESL (new ones: configs/supervised).
supervised = dict(
    model=dict(semi_train_cfg=dict(variant='sup'), semi_test_cfg=dict(predict_on='student')),
    train_dataloader=dict(batch_size=8, batch_sampler=dict(total_unlabeled=0)),
    default_hooks=dict(checkpoint=dict(save_best='student/mIoU')))
