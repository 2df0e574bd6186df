# COCO with 3697 of 118287 images labelled: a supervised config, for a method to wrap.
_base_ = ['../data/coco.py', '../lists/coco_1-32.py']
train_cfg = dict(max_iters=_base_.epochs * _base_.num_unlabeled // _base_.images_per_step)
train_dataloader = dict(dataset=_base_.lists)
