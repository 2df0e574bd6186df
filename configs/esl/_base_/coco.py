# As in release 0.1.0, for configs that inherit it; new ones inherit a file of configs/_base_.
_base_ = ['../../_base_/data/coco.py', './wrapping.py']
model = dict(_delete_=True, segmentor=_base_.model, **_base_.esl)
default_hooks = dict(checkpoint=dict(save_best='teacher/mIoU'))
