# VOC 2012 with SBD, both protocols: they differ in their lists and in how many images are labelled.
# tools/dataset_converters/voc_aug.py writes the folder, tools/make_splits.py the lists.
_base_ = '../deeplabv3plus.py'
epochs = 80
num_images = 10582

crop_size = (513, 513)
model = dict(
    data_preprocessor=dict(size=crop_size),
    decode_head=dict(num_classes=21),
    auxiliary_head=dict(num_classes=21))
optim_wrapper = dict(optimizer=dict(lr=1e-3, weight_decay=1e-4))

data_root = 'data/VOCdevkit/VOC2012'
weak_view = [
    # the long side of VOC's images is 500, so they are resized to 0.5-2.0 of what they are
    dict(type='RandomResize', scale=(500, 500), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(dataset=dict(
    labeled=dict(
        type='PascalVOCDataset',
        data_root=data_root,
        data_prefix=dict(img_path='JPEGImages', seg_map_path='SegmentationClassAug'),
        pipeline=[dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), *weak_view]),
    unlabeled=dict(
        type='UnlabeledDataset',
        data_root=data_root,
        img_suffix='.jpg',
        data_prefix=dict(img_path='JPEGImages'),
        pipeline=[
            dict(type='LoadImageFromFile'), dict(type='LoadEmptyAnnotations'), *weak_view
        ])))

# Training validates on the paper's centre crop; tools/test.py tests on whole images.
test_pipeline = [  # mmseg's inference API reads this name
    dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), dict(type='PackSegInputs')
]
val_set = dict(
    type='PascalVOCDataset',
    data_root=data_root,
    ann_file='ImageSets/Segmentation/val.txt',
    data_prefix=dict(img_path='JPEGImages', seg_map_path='SegmentationClass'))
val_dataloader = dict(dataset=dict(pipeline=[
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='EvaluatedCenterCrop', crop_size=crop_size),
    dict(type='PackSegInputs')
], **val_set))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline, **val_set))

train_cfg = dict(val_interval=5000)
default_hooks = dict(checkpoint=dict(interval=5000))
