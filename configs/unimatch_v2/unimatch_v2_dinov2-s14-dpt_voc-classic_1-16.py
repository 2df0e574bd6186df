# UniMatch V2, DINOv2 ViT-S/14 with DPT, VOC classic with 92 of 10582 images labelled.
# The authors' log: 79.11 mIoU, at its best epoch.
_base_ = [
    './_base_/voc_dinov2-s14_dpt.py', '../_base_/lists/voc-classic_1-16.py', './method.py']
train_cfg = dict(max_iters=_base_.epochs * _base_.num_unlabeled // _base_.images_per_step)
train_dataloader = dict(dataset=_base_.lists)
model = dict(_delete_=True, segmentor=_base_.model, **_base_.method)
default_hooks = _base_.method_hooks
