# Cityscapes as the paper trains it: crop 769, flip and resize 0.5-2.0, 8 + 8 images over 4 GPUs.
# The lists hold stems such as aachen/aachen_000000_000019, one a line.
semi_data_root = 'data/cityscapes/'
weak_view = [
    dict(type='RandomResize', scale=(2048, 1024), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type='RandomCrop', crop_size=(769, 769)),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
semi_dataloader = dict(
    batch_size=4,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    batch_sampler=dict(type='SemiBatchSampler', num_labeled=2, num_unlabeled=2),
    dataset=dict(
        type='SemiDataset',
        labeled=dict(
            type='CityscapesDataset',
            data_root=semi_data_root,
            data_prefix=dict(img_path='leftImg8bit/train', seg_map_path='gtFine/train'),
            pipeline=[dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), *weak_view]),
        unlabeled=dict(
            type='UnlabeledDataset',
            data_root=semi_data_root,
            img_suffix='_leftImg8bit.png',
            data_prefix=dict(img_path='leftImg8bit/train'),
            pipeline=[
                dict(type='LoadImageFromFile'), dict(type='LoadEmptyAnnotations'), *weak_view
            ])))
ohem = dict(type='OHEMCrossEntropyLoss', thresh=0.7, min_kept=100000)  # per rank's batch
# Decoder and projector learn ten times faster than the backbone.
semi_optim_wrapper = dict(
    type='OptimWrapper',
    constructor='StudentOptimWrapperConstructor',
    optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=5e-4),
    paramwise_cfg=dict(custom_keys=dict(decode_head=dict(lr_mult=10), projector=dict(lr_mult=10))))
