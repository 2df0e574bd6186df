# Supervised baseline, DeepLabV3+ Xception-65, COCO with 1849 of 118287 images labelled.
# The paper: 37.80 mIoU.
_base_ = '../supervised/supervised_xception65_coco_1-64.py'
