# UniMatch V2's release on Cityscapes with DINOv2 ViT-S/14 and DPT.
_base_ = ['./cityscapes_798.py', '../../_base_/networks/dinov2-s14_dpt.py']
head = _base_.model.decode_head
model = dict(_base_.model, **_base_.network, _delete_=True)
model['decode_head'].update(num_classes=head.num_classes, loss_decode=head.loss_decode)
optim_wrapper = dict(_base_.optim_wrapper, **_base_.network_optim, _delete_=True)
