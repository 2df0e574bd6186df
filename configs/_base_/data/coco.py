# COCO 2017 with 81 classes, background 0 (tools/dataset_converters/coco_semi.py), and Xception-65
# from timm, an optional package (pip install timm torchvision).
_base_ = '../deeplabv3plus.py'
epochs = 30
num_images = 118287

crop_size = (513, 513)
model = dict(
    pretrained=None,  # timm's own weights, and what they were trained with
    data_preprocessor=dict(size=crop_size, mean=[127.5] * 3, std=[127.5] * 3),
    backbone=dict(
        _delete_=True, type='TIMMBackbone', model_name='xception65', features_only=True,
        pretrained=True, output_stride=16, out_indices=(1, 2, 3, 4)),  # plain batch norm
    # dilations 6/12/18 are those of 12/24/36 at stride 8
    decode_head=dict(
        in_channels=2048, c1_in_channels=256, dilations=(1, 6, 12, 18), num_classes=81),
    auxiliary_head=None)
optim_wrapper = dict(optimizer=dict(lr=4e-3, weight_decay=1e-4))

metainfo = dict(classes=(
    'background', 'person', 'bicycle', 'car', 'motorcycle', 'airplane', 'bus', 'train', 'truck',
    'boat', 'traffic light', 'fire hydrant', 'stop sign', 'parking meter', 'bench', 'bird', 'cat',
    'dog', 'horse', 'sheep', 'cow', 'elephant', 'bear', 'zebra', 'giraffe', 'backpack', 'umbrella',
    'handbag', 'tie', 'suitcase', 'frisbee', 'skis', 'snowboard', 'sports ball', 'kite',
    'baseball bat', 'baseball glove', 'skateboard', 'surfboard', 'tennis racket', 'bottle',
    'wine glass', 'cup', 'fork', 'knife', 'spoon', 'bowl', 'banana', 'apple', 'sandwich', 'orange',
    'broccoli', 'carrot', 'hot dog', 'pizza', 'donut', 'cake', 'chair', 'couch', 'potted plant',
    'bed', 'dining table', 'toilet', 'tv', 'laptop', 'mouse', 'remote', 'keyboard', 'cell phone',
    'microwave', 'oven', 'toaster', 'sink', 'refrigerator', 'book', 'clock', 'vase', 'scissors',
    'teddy bear', 'hair drier', 'toothbrush'))
data_root = 'data/coco'
weak_view = [
    # the long side of most of COCO's images is 640, so they are resized to 0.5-2.0 of what they are
    dict(type='RandomResize', scale=(640, 640), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(dataset=dict(
    labeled=dict(
        type='BaseSegDataset',
        metainfo=metainfo,
        data_root=data_root,
        data_prefix=dict(img_path='train2017', seg_map_path='masks/train2017'),
        pipeline=[dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), *weak_view]),
    unlabeled=dict(
        type='UnlabeledDataset',
        data_root=data_root,
        img_suffix='.jpg',
        data_prefix=dict(img_path='train2017'),
        pipeline=[
            dict(type='LoadImageFromFile'), dict(type='LoadEmptyAnnotations'), *weak_view
        ])))

test_pipeline = [  # mmseg's inference API reads this name
    dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), dict(type='PackSegInputs')
]
val_dataloader = dict(dataset=dict(
    type='BaseSegDataset',
    metainfo=metainfo,
    data_root=data_root,
    data_prefix=dict(img_path='val2017', seg_map_path='masks/val2017'),
    pipeline=test_pipeline))
test_dataloader = val_dataloader

train_cfg = dict(val_interval=20000)
default_hooks = dict(checkpoint=dict(interval=20000))
