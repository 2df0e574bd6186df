# Swin-T of Hugging Face's transformers (pip install transformers) with UPerNet, likewise. Nothing
# is downloaded here; once, before (or by any other way):
#   hf download microsoft/swin-tiny-patch4-window7-224 --local-dir pretrain/swin-tiny
# `config` is what that folder's config.json says; written out, a trained checkpoint builds without
# the folder. `config='pretrain/swin-tiny'` reads it, of any model.
_base_ = './timm-convnext-t_upernet.py'
network = dict(
    backbone=dict(
        _delete_=True, type='HFBackbone', pretrained='pretrain/swin-tiny', out_indices=(1, 2, 3, 4),
        config=dict(model_type='swin', embed_dim=96, depths=[2, 2, 6, 2], num_heads=[3, 6, 12, 24],
                    window_size=7, drop_path_rate=0.1)))
