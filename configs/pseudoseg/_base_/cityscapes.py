# PseudoSeg's settings on Cityscapes are not known to us: crops, rates and schedule are ours, the
# stride of 16 is its.
_base_ = '../../_base_/data/cityscapes.py'
model = dict(
    backbone=dict(strides=(1, 2, 2, 1), dilations=(1, 1, 1, 2)),
    decode_head=dict(dilations=(1, 6, 12, 18)))
