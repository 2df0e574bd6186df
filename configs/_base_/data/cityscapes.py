# Cityscapes. The lists hold stems such as aachen/aachen_000000_000019, one a line.
_base_ = '../deeplabv3plus.py'
epochs = 200
num_images = 2975

crop_size = (769, 769)
model = dict(
    data_preprocessor=dict(size=crop_size),
    decode_head=dict(loss_decode=dict(  # of each rank's batch
        _delete_=True, type='OHEMCrossEntropyLoss', thresh=0.7, min_kept=100000)),
    test_cfg=dict(mode='slide', crop_size=crop_size, stride=(513, 513)))
optim_wrapper = dict(optimizer=dict(lr=1e-2, weight_decay=5e-4))

data_root = 'data/cityscapes/'
weak_view = [
    dict(type='RandomResize', scale=(2048, 1024), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(dataset=dict(
    labeled=dict(
        type='CityscapesDataset',
        data_root=data_root,
        data_prefix=dict(img_path='leftImg8bit/train', seg_map_path='gtFine/train'),
        pipeline=[dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), *weak_view]),
    unlabeled=dict(
        type='UnlabeledDataset',
        data_root=data_root,
        img_suffix='_leftImg8bit.png',
        data_prefix=dict(img_path='leftImg8bit/train'),
        pipeline=[
            dict(type='LoadImageFromFile'), dict(type='LoadEmptyAnnotations'), *weak_view
        ])))

test_pipeline = [  # mmseg's inference API reads this name
    dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), dict(type='PackSegInputs')
]
val_dataloader = dict(dataset=dict(
    type='CityscapesDataset',
    data_root=data_root,
    data_prefix=dict(img_path='leftImg8bit/val', seg_map_path='gtFine/val'),
    pipeline=test_pipeline))
test_dataloader = val_dataloader

train_cfg = dict(val_interval=5000)
default_hooks = dict(checkpoint=dict(interval=5000))
