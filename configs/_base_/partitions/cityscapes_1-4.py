# Cityscapes with 744 of 2975 images labelled: a supervised config, for a method to wrap.
_base_ = ['../data/cityscapes.py', '../lists/cityscapes_1-4.py']
train_cfg = dict(max_iters=_base_.epochs * _base_.num_unlabeled // _base_.images_per_step)
train_dataloader = dict(dataset=_base_.lists)
