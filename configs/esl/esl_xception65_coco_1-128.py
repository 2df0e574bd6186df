# ESL, DeepLabV3+ Xception-65, COCO with 925 of 118287 images labelled.
# The paper: 44.37 mIoU.
_base_ = './_base_/coco.py'
num_labeled = 925
num_unlabeled = _base_.num_images - num_labeled

train_cfg = dict(max_iters=_base_.epochs * num_unlabeled // _base_.images_per_step)
train_dataloader = dict(dataset=dict(
    labeled=dict(ann_file='splits/1-128/labeled.txt'),
    unlabeled=dict(ann_file='splits/1-128/unlabeled.txt')))
