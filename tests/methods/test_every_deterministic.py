"""No method asks for what torch refuses on CUDA under ``randomness.deterministic=True``.

There is no CUDA here. Listed are the operators of which its kernels say that they give other bits
each time, and the networks of these tests have none of them.
"""
import every
import pytest
import tiny
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mmseg_esl.functional import running_sum as sums

REFUSED = {
    'kthvalue', 'histc', 'put_', 'grid_sampler_2d_backward', 'adaptive_avg_pool2d_backward',
    '_adaptive_avg_pool2d_backward', 'reflection_pad2d_backward', 'replication_pad2d_backward',
    'upsample_linear1d_backward', 'upsample_bicubic2d_backward'}


class AsOnCuda(TorchDispatchMode):
    """Raises where CUDA would."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        if (name in REFUSED or name == 'cumsum' and args[0].is_floating_point()
                or name == 'nll_loss2d_forward' and args[3] != 0  # a mean or a sum
                or func is torch.ops.aten.median.dim):
            raise RuntimeError(f'{func} does not have a deterministic implementation')
        return func(*args, **(kwargs or {}))


@pytest.fixture
def refused(monkeypatch):
    monkeypatch.setattr(sums, 'cumsum_refused', lambda device: True)
    with AsOnCuda():
        yield


@pytest.mark.parametrize('case', [every.Case(kind) for kind in every.METHODS], ids=repr)
def test_a_step(case, refused):
    model = case.build(sharp=1.0)
    total, _ = model.parse_losses(model.loss(*tiny.batch()))
    total.backward()
    model.after_optimizer_step(3)


def test_hard_pixels(refused):
    head = tiny.segmentor()
    head['decode_head']['loss_decode'] = dict(type='OHEMCrossEntropyLoss', min_kept=100)
    tiny.total(tiny.esl('dsl', head).loss(*tiny.batch())).backward()


def test_sums_are_cumsums(monkeypatch):
    x = torch.rand(5, 3, 4, dtype=torch.float64)
    assert not sums.cumsum_refused(torch.device('cpu'))
    monkeypatch.setattr(sums, 'cumsum_refused', lambda device: True)
    for dim in range(3):
        torch.testing.assert_close(sums.running_sum(x, dim), x.cumsum(dim))
    assert sums.running_sum(x[:1], 0).equal(x[:1])
