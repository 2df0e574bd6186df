"""Steps on labelled images alone: of the warm-up, and of what never looks at others."""
from __future__ import annotations

import copy

import every
import pytest
import tiny
import torch


def supervised(model, images) -> list:
    """Losses of the labelled images in two first steps, which differ in the unlabelled ones."""
    state, found = copy.deepcopy(model.state_dict()), []
    for seed in (0, 1):
        model.load_state_dict(state)
        inputs, samples = tiny.batch(*images)
        more = torch.randn(inputs.shape, generator=torch.Generator().manual_seed(seed))
        inputs[images[0]:] += more[images[0]:]
        losses = model.loss(inputs, samples)
        found.append({key: value.detach() for key, value in losses.items() if 'decode' in key})
    return found


@pytest.mark.parametrize('kind', every.METHODS)
def test_unlabelled_images_are_company_alone(kind):
    """Batch norm behind global pooling cannot live with one image: that one may see weak ones."""
    model = every.Case(kind, warmup_iters=1).build(sharp=1.0)
    one, two = supervised(model, (2, 2))
    assert one == two
    # of the networks that are trained, and of none that follows one
    learn = {'', 'student2.'} if kind in ('CPS', 'GCT') else {''}
    assert {key.partition('decode')[0] for key in one} == learn
    one, two = supervised(model, (1, 2))
    assert all(value.isfinite() for value in one.values())
    assert one['decode.loss_ce'] != two['decode.loss_ce']


@pytest.mark.parametrize('kind, keys', [
    ('Supervised', {}), ('ESL', dict(variant='sup')), ('PseudoSeg', {})])
def test_none_is_company_where_the_method_says_so(kind, keys):
    model = every.Case(kind, **keys).build(tiny.segmentor(decode_head=tiny.fcn()), sharp=1.0)
    one, two = supervised(model, (1, 2))
    assert one == two and one


@pytest.mark.parametrize('kind, keys', [
    ('ESL', {}), ('ESLPlus', dict(variant='dsl+ctr')), ('ReCo', {}), ('U2PL', {})])
def test_the_projector_gathers_its_statistics_already(kind, keys):
    model = every.Case(kind, warmup_iters=1, **keys).build()
    losses = model.loss(*tiny.batch())
    assert losses['loss_unused'] == 0  # it does not learn yet
    norms = [m for m in model.projector.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert norms and all(norm.num_batches_tracked == 1 for norm in norms)
