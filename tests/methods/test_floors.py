"""The floor of each method's step has the passes that the method says it has, and no others."""
from __future__ import annotations

import every
import pytest
import torch
from bench.floors import Floor, measure
from bench.models import make_batch, train_step
from bench.tables import methods as table
from mmengine.optim import OptimWrapper

from mmseg_esl.models.segmentors import main_head

each = pytest.mark.parametrize('case', every.CASES, ids=repr)


def ready(case):
    model = case.build(sharp=1.0)
    trained = [p for p in model.parameters() if p.requires_grad]
    return model, OptimWrapper(torch.optim.SGD(trained, lr=1e-3)), make_batch(2, 3, 3, 32)


@each
def test_its_passes_are_the_methods(case):
    model, optimizer, batch = ready(case)
    floor, said = Floor(model, optimizer, batch), case.cls.passes(case.cfg)
    wanted = tuple(2 * said['labeled'][i] + 3 * said['unlabeled'][i] for i in (0, 1))
    assert floor.units() == wanted
    # and so many images pass when it runs
    found = [0, 0]
    for net in model.named(plain=True).values():
        for i, part in enumerate((net.backbone, main_head(net))):
            part.register_forward_hook(lambda module, args, out, i=i: count(found, i, out))
    before = {name: weights(model, name) for name in model.named(plain=True)}
    floor()
    assert tuple(found) == wanted
    for name, old in before.items():
        moved = every.differing(weights(model, name), old)
        assert bool(moved) == (model.roles[name].follows is None), name


def test_the_noise_s_passes_are_in_it():
    """Passes of PS-MT's teachers, made while the student's decoder runs, are the step's as well."""
    model, optimizer, batch = ready(every.Case('PSMT'))
    floor = Floor(model, optimizer, batch)
    for name in ('teacher', 'teacher2'):
        classifier = main_head(getattr(model, name)).conv_seg
        calls = [call for call in floor.calls if call.module is classifier]
        # for the labelled images' noise and for the unlabelled ones': still, and moved
        assert [(call.images, call.grad) for call in calls] == [
            (2, False), (2, True), (3, False), (3, True)]


def weights(model, name: str) -> dict:
    net = getattr(model, name)
    return {key: p.detach().clone() for key, p in net.named_parameters()}


def count(found, i, out):
    out = out if isinstance(out, torch.Tensor) else out[-1]
    found[i] += len(out) * (3 if out.requires_grad else 1)


def test_it_leaves_the_step_alone():
    """Listening, and running the floor's passes at a rate of zero, changes no later step."""
    found = []
    for floored in (False, True):
        model, optimizer, batch = ready(every.Case('ESL'))
        if floored:
            norms = [m for m in model.modules() if hasattr(m, 'num_batches_tracked')]
            before = [(m, {k: v.clone() for k, v in m.state_dict().items()}) for m in norms]
            optimizer.optimizer.param_groups[0]['lr'] = 0.0
            Floor(model, optimizer, batch)()
            optimizer.optimizer.param_groups[0]['lr'] = 1e-3
            for module, state in before:
                module.load_state_dict(state)
        torch.manual_seed(5)
        train_step(model, optimizer, batch)
        found.append({key: value.clone() for key, value in model.state_dict().items()})
    assert every.differing(*found) == []
    assert not any('forward' in vars(module) for module in model.modules())


def test_a_row_of_the_table():
    case = every.Case('UniMatch')
    row = dict(method='unimatch', network='tiny', **measure(*ready(case), rounds=1))
    said = case.cls.passes(case.cfg)
    assert row['units'] == [(2 * said['labeled'][i] + 3 * said['unlabeled'][i]) * 2 / 5
                            for i in (0, 1)]
    assert row['ratio'] == row['times']['step'][0] / row['times']['floor'][0]
    assert row['memory']['floor'] > 0 and not row['counts']['waits']
    shown = table(dict(cpu=dict(methods=dict(rows=[row, dict(row, classes=4, ratio=1.234)])),
                       cuda={}))
    cells = [cell.strip() for cell in shown.splitlines()[-1].split('|')]
    assert cells[1:3] == ['unimatch', 'CPU, tiny, 32, 5'] and cells[5] == '1.23×'
    assert shown.splitlines()[0].count('|') == len(cells) - 1
