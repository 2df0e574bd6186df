# ESL, DeepLabV3+ ResNet-50, VOC classic with 183 of 10582 images labelled.
# The paper: 69.50 mIoU.
_base_ = './_base_/voc.py'
num_labeled = 183
num_unlabeled = _base_.num_images - num_labeled

train_cfg = dict(max_iters=_base_.epochs * num_unlabeled // _base_.images_per_step)
train_dataloader = dict(dataset=dict(
    labeled=dict(ann_file='splits/voc-classic/1-8/labeled.txt'),
    unlabeled=dict(ann_file='splits/voc-classic/1-8/unlabeled.txt')))
