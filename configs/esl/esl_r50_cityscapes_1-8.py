# ESL, DeepLabV3+ ResNet-50, Cityscapes with 372 of 2975 images labelled.
# The paper: 76.25 mIoU.
_base_ = './_base_/cityscapes.py'
num_labeled = 372
num_unlabeled = _base_.num_images - num_labeled

train_cfg = dict(max_iters=_base_.epochs * num_unlabeled // _base_.images_per_step)
train_dataloader = dict(dataset=dict(
    labeled=dict(ann_file='splits/1-8/labeled.txt'),
    unlabeled=dict(ann_file='splits/1-8/unlabeled.txt')))
