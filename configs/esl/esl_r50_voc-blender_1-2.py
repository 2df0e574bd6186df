# ESL, DeepLabV3+ ResNet-50, VOC blender with 5291 of 10582 images labelled.
# The paper: 78.02 mIoU.
_base_ = './_base_/voc.py'
num_labeled = 5291
num_unlabeled = _base_.num_images - num_labeled

train_cfg = dict(max_iters=_base_.epochs * num_unlabeled // _base_.images_per_step)
train_dataloader = dict(dataset=dict(
    labeled=dict(ann_file='splits/voc-blender-u2pl/1-2/labeled.txt'),
    unlabeled=dict(ann_file='splits/voc-blender-u2pl/1-2/unlabeled.txt')))
