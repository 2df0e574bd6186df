"""Runs that meet something non-finite, and what they leave; on one process or under torchrun.

``python -m torch.distributed.run --standalone --nproc_per_node 2 tests/engine/guarded.py FOLDER``
"""
from __future__ import annotations

import copy
import math
import sys
from pathlib import Path

import torch
from mmengine.dist import get_rank, get_world_size
from mmengine.hooks import Hook

sys.path.insert(0, str(Path(__file__).parents[1]))
import tiny

GUARD = dict(type='FiniteGuardHook')
FAULTS = {  # name -> what the diagnosis must name
    'nan image': 'input image',
    'inf image': 'input image',
    'student logits': 'loss term',
    'teacher logits': 'teacher logits of image',
    'teacher embedding': 'part embeddings of image',
    'teacher features': 'part features of image',
    'gradient': 'gradient of student.decode_head.conv_seg.weight',
    'statistic': 'batch-norm statistic student.backbone.stem.1.running_var',
}


class Fault(Hook):
    """Spoils iteration ``at`` on ranks ``ranks``; feeds the recorded batches, else records them.

    The iterations ``dropped`` get the batch of the next good one, so that the good iterations see
    the same data and random numbers as a run without them.
    """
    priority = 'LOW'

    def __init__(self, kind='', at=None, dropped=(), ranks=(0, 1), batches=None):
        self.kind, self.at, self.dropped, self.ranks = kind, at, dropped, ranks
        self.record, self.batches = batches is None, [] if batches is None else batches
        self.handles = []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        number = runner.iter - sum(i < runner.iter for i in self.dropped)
        if self.record:
            self.batches.append(copy.deepcopy(data_batch))
        else:
            data_batch.update(copy.deepcopy(self.batches[number]))
        torch.manual_seed(100 * number + get_rank())
        if runner.iter == self.at and get_rank() in self.ranks:
            self.spoil(getattr(runner.model, 'module', runner.model), data_batch)

    def spoil(self, model, data_batch):
        bad = math.inf if self.kind.startswith('inf') else math.nan

        def one_value(module, args, out):
            last = out[-1] if isinstance(out, (list, tuple)) else out
            last = last.clone()
            # logits count where an image is unlabelled; the part features of all go to the memory
            last[-1 if 'logits' in self.kind else 0, :, 0, 0] = bad
            return (*out[:-1], last) if isinstance(out, (list, tuple)) else last

        def statistic(module, args, out):
            module.running_var.data[0] = math.inf  # unseen by autograd

        modules = {'student logits': model.student.decode_head.conv_seg,
                   'teacher logits': model.teacher.decode_head.conv_seg,
                   'teacher embedding': model.teacher_projector,
                   'teacher features': model.teacher.backbone,
                   'statistic': model.student.backbone.stem[1]}
        if self.kind.endswith('image'):
            image = data_batch['inputs'][-1].float()
            image[0, 5, 5] = bad
            data_batch['inputs'][-1] = image
        elif self.kind == 'gradient':
            weight = model.student.decode_head.conv_seg.weight
            self.handles.append(weight.register_hook(lambda grad: grad * bad))
        elif self.kind == 'statistic':
            self.handles.append(modules[self.kind].register_forward_hook(statistic))
        else:
            self.handles.append(modules[self.kind].register_forward_hook(one_value))

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        while self.handles:
            self.handles.pop().remove()


def state(runner) -> dict:
    """Copies of every tensor of model and optimiser."""
    model = getattr(runner.model, 'module', runner.model)
    out = {key: value.clone() for key, value in model.state_dict().items()}
    optimizer = runner.optim_wrapper.optimizer
    for i, p in enumerate(p for group in optimizer.param_groups for p in group['params']):
        for key, value in optimizer.state.get(p, {}).items():
            if isinstance(value, torch.Tensor):
                out[f'optimizer.{i}.{key}'] = value.clone()
    return out


def differing(a: dict, b: dict) -> list:
    return sorted(a.keys() ^ b.keys()) + [k for k in a if k in b and not torch.equal(a[k], b[k])]


def guarded_run(folder, fault: Fault, max_iters: int, guard=GUARD, **kwargs):
    """Returns runner, the states after each iteration, the outputs of each iteration."""
    watch = tiny.Watch(state)
    data = folder / f'data{get_rank()}'
    if not data.is_dir():
        tiny.write_data(data)
    if get_world_size() > 1:
        kwargs.update(launcher='pytorch', cfg=dict(model_wrapper_cfg=dict(
            type='MMDistributedDataParallel', broadcast_buffers=False, device_ids=None)))
    runner = tiny.run(folder / f'{fault.kind}-{max_iters}', data,
                      [tiny.EMA, tiny.PARTS, dict(type='DiagnosticsHook'), guard, fault, watch],
                      max_iters=max_iters, **kwargs)
    return runner, watch.found


def check(folder, kind: str, good: list, batches: list, ranks=(0, 1), **kwargs) -> str:
    """Two good steps, a bad and a good one, against three good ones; returns what was logged."""
    each = (kwargs.get('wrapper') or {}).get('accumulative_counts', 1)
    # the first iteration of an accumulated step is bad, all of them are dropped
    fault = Fault(kind, 2 * each, range(2 * each, 3 * each), ranks, batches)
    runner, found = guarded_run(folder, fault, 4 * each, **kwargs)
    wrong = differing(found[2 * each - 1], found[3 * each - 1])
    assert not wrong, (kind, wrong[:5])  # nothing of it is left
    wrong = differing(found[4 * each - 1], good[3 * each - 1])
    assert not wrong, (kind, wrong[:5])  # and it goes on as if it had never been
    assert differing(found[4 * each - 1], found[3 * each - 1])
    assert runner.message_hub.get_scalar('train/skipped_steps').current() == 1
    for key, history in runner.message_hub.log_scalars.items():
        assert all(map(math.isfinite, history.data[0])), key
    logs = sorted((folder / f'{kind}-{4 * each}').glob('work/*/*.log'))
    return logs[0].read_text() if get_rank() == 0 else ''


def main(folder: Path) -> None:
    """Only rank 1 is bad."""
    from mmseg_esl import stack

    torch.set_num_threads(1)
    stack.start_gloo('pytorch', timeout=120)
    record = Fault()
    _, good = guarded_run(folder, record, 3)
    for kind, named in FAULTS.items():
        said = check(folder, kind, good, record.batches, ranks=(1,))
        # a gradient is the same on all ranks once DistributedDataParallel has averaged it
        if get_rank() == 0:
            assert f'rank 1: {named}' in said, (kind, said)
        print(f'rank {get_rank()}: {kind} ok', flush=True)


if __name__ == '__main__':
    main(Path(sys.argv[1]))
