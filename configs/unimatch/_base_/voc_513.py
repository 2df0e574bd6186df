# UniMatch's release on VOC, where it differs from ours: stride 16, no dropout, whole images.
_base_ = '../../_base_/data/voc.py'
model = dict(
    backbone=dict(strides=(1, 2, 2, 1), dilations=(1, 1, 1, 2)),
    decode_head=dict(dilations=(1, 6, 12, 18), dropout_ratio=0))
val_dataloader = dict(dataset=dict(pipeline=_base_.test_pipeline))
