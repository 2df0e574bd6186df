"""The smallest run that mmengine's Runner makes: two weights, no images."""
import uuid

import numpy as np
import torch
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn


class Numbers(torch.utils.data.Dataset):
    METAINFO = {}
    metainfo = dict(classes=('a', 'b'), palette=np.zeros((2, 3), dtype=np.uint8))

    def __len__(self):
        return 8

    def __getitem__(self, index):
        return torch.full((2, ), float(index))


class Line(BaseModel):

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 1)

    def forward(self, *inputs, mode='tensor'):
        if mode == 'predict':
            return list(inputs)
        return dict(loss=self.layer(torch.stack(inputs)).pow(2).mean())


def make_runner(folder, max_iters, name=None, checkpoint=None, default_hooks=None,
                workers=0, sampler='InfiniteSampler', **kwargs):
    """``checkpoint`` is the config of the checkpoint hook (None: mmengine's own)."""
    checkpoint = checkpoint or dict(type='CheckpointHook', interval=2, by_epoch=False)
    kwargs.setdefault('log_level', 'ERROR')
    kwargs.setdefault('train_cfg', dict(type='IterBasedTrainLoop', max_iters=max_iters))
    return Runner(
        model=Line(), work_dir=str(folder), experiment_name=name or uuid.uuid4().hex,
        train_dataloader=dict(batch_size=2, num_workers=workers, dataset=Numbers(),
                              sampler=dict(type=sampler, shuffle=True)),
        optim_wrapper=dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=0.1),
                           clip_grad=dict(max_norm=1)),
        param_scheduler=[dict(type='LinearLR', begin=0, end=2, by_epoch=False),
                         dict(type='PolyLR', begin=2, end=8, by_epoch=False)],
        default_hooks=dict(dict(checkpoint=checkpoint, logger=dict(type='LoggerHook', interval=1)),
                           **(default_hooks or {})),
        default_scope='mmengine', **kwargs)
