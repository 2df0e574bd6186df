# Supervised baseline, DeepLabV3+ Xception-65, COCO with 925 of 118287 images labelled.
# The paper: 33.60 mIoU.
_base_ = '../supervised/supervised_xception65_coco_1-128.py'
