# Supervised baseline, DeepLabV3+ Xception-65, COCO with 3697 of 118287 images labelled.
# The paper: 42.24 mIoU.
_base_ = '../supervised/supervised_xception65_coco_1-32.py'
