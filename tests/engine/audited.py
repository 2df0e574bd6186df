"""Runs that audit their pseudo labels; on one process or under torchrun.

``python -m torch.distributed.run --standalone --nproc_per_node 2 tests/engine/audited.py FOLDER``
"""
from __future__ import annotations

import copy
import json
import sys
from pathlib import Path

import numpy as np
import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))
import tiny

WRAPPER = dict(type='MMDistributedDataParallel', broadcast_buffers=False, device_ids=None)


class Sharpen(Hook):
    """Lets a network that has learnt nothing call many classes, and with confidence."""

    def before_train(self, runner):
        torch.manual_seed(0)
        tiny.sharpen(getattr(runner.model, 'module', runner.model), 7.0)


class Spread(Hook):
    """Lets every network call all classes, each network others: its own weights, centred."""

    def before_train(self, runner):
        images, _ = tiny.batch(3, 3)
        model = getattr(runner.model, 'module', runner.model)
        for number, net in enumerate(model.named(trained=True, plain=True).values()):
            norms = [m for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d)]
            for norm in norms:
                norm.reset_running_stats()
                norm.momentum = None  # the statistics are these images'
            with torch.no_grad():
                net.train()(images)
                last = net.eval().decode_head.conv_seg
                last.weight.normal_(0, 7.0, generator=torch.Generator().manual_seed(number))
                last.bias.sub_(net(images).mean(dim=(0, 2, 3)))
            for norm in norms:
                norm.momentum = 0.1
        runner.model.train()


def audit(**kwargs) -> dict:
    return dict(dict(type='PseudoLabelAuditHook', interval=2), **kwargs)


def read(folder, iteration: int) -> dict:
    return json.loads((folder / 'work/audit' / f'iter_{iteration}.json').read_text())


def counted(model, data, names=('a0', 'a1', 'a2'), mass=0.95, network='teacher') -> dict:
    """Shares by the definitions, from the files and the bare network, by numpy."""
    right, hits, sizes, soft = [], [], [], []
    net = copy.deepcopy(getattr(model, network)).eval()
    for name in names:
        image = np.array(Image.open(data / 'img' / f'{name}.png')).astype(np.float32)
        mask = np.array(Image.open(data / 'ann' / f'{name}.png')).astype(int)
        x = torch.from_numpy((image - 127.5) / 127.5).permute(2, 0, 1)[None]
        with torch.no_grad():
            logits = torch.nn.functional.interpolate(net(x), mask.shape, mode='bilinear')
        probs = logits.softmax(1)[0].flatten(1).T.numpy()
        true, known = mask.ravel(), mask.ravel() < probs.shape[1]
        for p, t in zip(probs[known], true[known]):
            order = np.argsort(-p)
            number = int(np.searchsorted(np.cumsum(p[order]), mass)) + 1
            kept = np.zeros_like(p)
            kept[order[:number]] = p[order[:number]]
            right.append(order[0] == t)
            hits.append(t in order[:number])
            sizes.append(number)
            soft.append(kept / kept.sum())
    return dict(pixels=len(right), hard_accuracy=np.mean(right), soft_hit_rate=np.mean(hits),
                one=np.mean(np.array(sizes) == 1), soft_share=np.mean(soft, axis=0))


def check(found: dict, wanted: dict) -> None:
    assert found['pixels'] == wanted['pixels']
    assert sum(x is not None for x in found['per_class']['precision']) > 1
    assert wanted['hard_accuracy'] < wanted['soft_hit_rate'] and 0 < wanted['one'] < 1
    # a pixel on the edge of two classes may fall either way
    near = dict(rtol=0, atol=1.5 / wanted['pixels'])
    np.testing.assert_allclose(found['hard_accuracy'], wanted['hard_accuracy'], **near)
    np.testing.assert_allclose(found['soft_hit_rate'], wanted['soft_hit_rate'], **near)
    np.testing.assert_allclose(found['dominant']['1'], wanted['one'], **near)
    np.testing.assert_allclose(found['per_class']['soft_share'], wanted['soft_share'], **near)


def main(folder: Path) -> None:
    """Three images, of which rank 1 has one; then one that rank 1 alone cannot read."""
    from mmseg_esl import stack

    torch.set_num_threads(1)
    stack.start_gloo('pytorch', timeout=120)
    data = folder / f'data{get_rank()}'
    tiny.write_data(data)

    def train(name, hook):
        # classes by weights of their own and a short way: whatever training draws, there are some
        return tiny.run(folder / name, data, [tiny.EMA, tiny.PARTS, Spread(), hook], val=True,
                        wrapper=dict(optimizer=dict(type='SGD', lr=1e-4)), launcher='pytorch',
                        cfg=dict(model_wrapper_cfg=WRAPPER))

    runner = train('good', audit())
    found = read(folder / 'good', 2)
    assert found['images'] == 3
    check(found, counted(runner.model.module, data))
    torch.distributed.barrier()

    held_out = folder / f'held_out{get_rank()}'
    tiny.write_data(held_out)
    if get_rank() == 1:
        (held_out / 'ann/a1.png').unlink()
    dataset = tiny.val_loader_cfg(held_out)['dataset']
    try:
        train('bad', audit(dataset=dataset))
    except Exception as error:
        print(f'rank {get_rank()}: {type(error).__name__}: {error}', flush=True)


if __name__ == '__main__':
    main(Path(sys.argv[1]))
