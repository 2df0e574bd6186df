# ESL, DeepLabV3+ ResNet-50, Cityscapes with 1488 of 2975 images labelled.
# The paper: 78.92 mIoU.
_base_ = './_base_/cityscapes.py'
num_labeled = 1488
num_unlabeled = _base_.num_images - num_labeled

train_cfg = dict(max_iters=_base_.epochs * num_unlabeled // _base_.images_per_step)
train_dataloader = dict(dataset=dict(
    labeled=dict(ann_file='splits/1-2/labeled.txt'),
    unlabeled=dict(ann_file='splits/1-2/unlabeled.txt')))
