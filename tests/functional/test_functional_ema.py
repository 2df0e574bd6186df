"""The teacher's moving average, against a loop over the state dict."""
from copy import deepcopy

import pytest
import torch
from torch import nn

from mmseg_esl.functional import ema_momentum, ema_update


class Net(nn.Module):
    """Parameters and buffers of every kind that a segmentor has."""

    def __init__(self, width=4):
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3)
        self.bn = nn.BatchNorm2d(width)
        self.register_buffer('mask', torch.zeros(width, dtype=torch.bool))
        self.register_buffer('scratch', torch.rand(3), persistent=False)
        self.scale = nn.Parameter(torch.rand(()))


def pair(seed=0, **kwargs):
    torch.manual_seed(seed)
    nets = Net(**kwargs).double(), Net(**kwargs).double()
    for i, net in enumerate(nets):
        net.bn.running_mean.normal_()
        net.bn.running_var.uniform_(0.5, 2)
        net.bn.num_batches_tracked.fill_(10 * i + 3)
        net.mask.copy_(torch.rand(net.mask.shape) > 0.5)
    return nets


def everything(net):
    return {**dict(net.named_parameters()), **dict(net.named_buffers())}


def naive_ema(teacher, student, m):
    out = {}
    for name, t in everything(teacher).items():
        s = everything(student)[name]
        if t.is_floating_point():
            out[name] = torch.tensor([m * a + (1 - m) * b for a, b in zip(
                t.detach().flatten().tolist(), s.detach().flatten().tolist())],
                dtype=t.dtype).view(t.shape)
        else:
            out[name] = s.clone()
    return out


@pytest.mark.parametrize('momentum', [0.0, 0.3, 0.5, 0.99, 0.999, 1.0])
def test_update_equals_naive(momentum):
    teacher, student = pair()
    want, before = naive_ema(teacher, student, momentum), deepcopy(everything(student))
    ema_update(teacher, student, momentum)
    got = everything(teacher)
    assert len(got) == 10
    for name, value in want.items():
        torch.testing.assert_close(got[name].detach(), value, msg=name)
    for name, value in everything(student).items():  # the student is only read
        assert torch.equal(value, before[name]), name


def test_batch_norm_statistics_follow_and_counters_are_copied():
    teacher, student = pair()
    mean = 0.9 * teacher.bn.running_mean + 0.1 * student.bn.running_mean
    var = 0.9 * teacher.bn.running_var + 0.1 * student.bn.running_var
    ema_update(teacher, student, 0.9)
    torch.testing.assert_close(teacher.bn.running_mean, mean)
    torch.testing.assert_close(teacher.bn.running_var, var)
    assert teacher.bn.num_batches_tracked.item() == 13
    assert torch.equal(teacher.mask, student.mask)


def test_momentum_zero_copies_bit_for_bit_and_one_changes_no_float():
    for dtype in (torch.float32, torch.float64):
        teacher, student = (net.to(dtype) for net in pair())
        ema_update(teacher, student, 0.0)
        for name, value in everything(student).items():
            assert torch.equal(everything(teacher)[name], value), name
    teacher, student = pair()
    before = deepcopy(everything(teacher))
    ema_update(teacher, student, 1.0)
    for name, value in everything(teacher).items():
        if value.is_floating_point():
            assert torch.equal(value, before[name]), name


def test_update_is_in_place_and_outside_of_autograd():
    teacher, student = pair()  # both require gradients
    pointers = {name: t.data_ptr() for name, t in everything(teacher).items()}
    ema_update(teacher, student, 0.5)
    assert {name: t.data_ptr() for name, t in everything(teacher).items()} == pointers
    assert all(p.grad_fn is None and p.is_leaf for p in teacher.parameters())


def test_many_updates_converge_on_a_still_student():
    teacher, student = pair()
    for step in range(400):
        ema_update(teacher, student, ema_momentum(step, 0.9))
    for name, value in everything(student).items():
        torch.testing.assert_close(everything(teacher)[name], value, msg=name)


def test_warm_up_is_the_plain_average_of_the_students():
    """While 1 - 1/(t+1) is below the momentum the teacher is the mean of all students so far."""
    teacher, students = nn.Linear(3, 2).double(), [nn.Linear(3, 2).double() for _ in range(20)]
    for step, student in enumerate(students):
        ema_update(teacher, student, ema_momentum(step, 0.99))
        mean = torch.stack([s.weight.detach() for s in students[:step + 1]]).mean(0)
        torch.testing.assert_close(teacher.weight.detach(), mean)


def test_schedule():
    assert ema_momentum(0) == 0
    assert ema_momentum(1) == 0.5
    assert ema_momentum(3) == 0.75
    assert ema_momentum(98) == pytest.approx(98 / 99)
    assert ema_momentum(99) == ema_momentum(10**6) == 0.99
    assert ema_momentum(10**6, 0.999) == 0.999
    values = [ema_momentum(step, 0.996) for step in range(400)]
    assert values == sorted(values) and values[-1] == 0.996 and all(0 <= v < 1 for v in values)


@pytest.mark.parametrize('momentum', [-0.01, 1.01, float('nan')])
def test_momentum_out_of_range_is_refused(momentum):
    with pytest.raises(ValueError, match='momentum'):
        ema_update(*pair(), momentum)


@pytest.mark.parametrize('other', [
    lambda: Net(5), lambda: nn.Conv2d(3, 4, 3), lambda: nn.Sequential(Net(), nn.ReLU(), Net()),
    lambda: nn.Identity()])
def test_different_structures_are_refused_and_nothing_is_written(other):
    teacher, _ = pair()
    before = deepcopy(everything(teacher))
    with pytest.raises(ValueError, match='structure'):
        ema_update(teacher, other(), 0.5)
    for name, value in everything(teacher).items():
        assert torch.equal(value, before[name])


def test_shared_parameters_move_once():
    torch.manual_seed(0)
    student = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)).double()
    student[1].weight = student[0].weight
    teacher = deepcopy(student)
    with torch.no_grad():
        student[0].weight.add_(1)
    want = teacher[0].weight.detach() + 0.1
    ema_update(teacher, student, 0.9)
    torch.testing.assert_close(teacher[1].weight.detach(), want)


def test_modules_without_float_tensors():
    teacher, student = nn.Module(), nn.Module()
    teacher.register_buffer('n', torch.tensor(1))
    student.register_buffer('n', torch.tensor(7))
    ema_update(teacher, student, 0.9)
    assert teacher.n.item() == 7
    ema_update(nn.Identity(), nn.Identity(), 0.9)
