# UniMatch V2, DINOv2 ViT-B/14 with DPT, Cityscapes with 372 of 2975 images labelled.
# The authors' log: 84.30 mIoU, at its best epoch.
_base_ = [
    './_base_/cityscapes_dinov2-b14_dpt.py', '../_base_/lists/cityscapes_1-8.py', './method.py']
train_cfg = dict(max_iters=_base_.epochs * _base_.num_unlabeled // _base_.images_per_step)
train_dataloader = dict(dataset=_base_.lists)
model = dict(_delete_=True, segmentor=_base_.model, **_base_.method)
default_hooks = _base_.method_hooks
