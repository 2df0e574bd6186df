# ESL, DeepLabV3+ Xception-65, COCO with 1849 of 118287 images labelled.
# The paper: 47.14 mIoU.
_base_ = './_base_/coco.py'
num_labeled = 1849
num_unlabeled = _base_.num_images - num_labeled

train_cfg = dict(max_iters=_base_.epochs * num_unlabeled // _base_.images_per_step)
train_dataloader = dict(dataset=dict(
    labeled=dict(ann_file='splits/1-64/labeled.txt'),
    unlabeled=dict(ann_file='splits/1-64/unlabeled.txt')))
