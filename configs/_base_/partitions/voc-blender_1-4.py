# VOC blender with 2646 of 10582 images labelled: a supervised config, for a method to wrap.
_base_ = ['../data/voc.py', '../lists/voc-blender_1-4.py']
train_cfg = dict(max_iters=_base_.epochs * _base_.num_unlabeled // _base_.images_per_step)
train_dataloader = dict(dataset=_base_.lists)
