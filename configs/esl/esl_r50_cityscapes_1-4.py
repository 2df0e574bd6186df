# ESL, DeepLabV3+ ResNet-50, Cityscapes with 744 of 2975 images labelled. The paper: 77.58 mIoU.
_base_ = [
    'mmseg::deeplabv3plus/deeplabv3plus_r50-d8_4xb2-80k_cityscapes-769x769.py',
    './_base_/esl.py',
    './_base_/cityscapes.py',
]
max_iters = 55800  # 200 epochs over 2231 unlabelled images, 8 a step

model = dict(_delete_=True, segmentor=_base_.model, **_base_.esl)
model['segmentor']['decode_head']['loss_decode'] = _base_.ohem

train_dataloader = dict(
    _delete_=True,
    **_base_.semi_dataloader)
train_dataloader['dataset']['labeled']['ann_file'] = 'splits/1-4/labeled.txt'
train_dataloader['dataset']['unlabeled']['ann_file'] = 'splits/1-4/unlabeled.txt'

optim_wrapper = dict(_delete_=True, **_base_.semi_optim_wrapper)
param_scheduler = [dict(type='PolyLR', power=0.9, eta_min=0.0, end=max_iters, by_epoch=False)]
train_cfg = dict(type='SemiTrainLoop', max_iters=max_iters, val_interval=5580)
val_cfg = dict(type='TeacherStudentValLoop')
default_hooks = dict(
    checkpoint=dict(type='SemiCheckpointHook', interval=5580, save_best='teacher/mIoU',
                    max_keep_ckpts=2))
