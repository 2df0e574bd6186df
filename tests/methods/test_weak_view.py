"""What labels are made of, as audits and pictures ask for it while a training runs."""
from __future__ import annotations

import copy

import every
import pytest
import tiny
import torch

from mmseg_esl.models.segmentors import metas_of


@pytest.mark.parametrize('case', [
    *map(every.Case, every.METHODS), every.Case('FixMatch', labels_by='teacher')], ids=repr)
def test_it_is_the_labelers_in_eval_mode_and_leaves_no_trace(case):
    averaged = any(role.follows for role in case.roles.values())
    model = case.build(sharp=1.0, **(dict(teacher_mode='train') if averaged else {}))
    model.loss(*tiny.batch())  # statistics that are not those of these images
    before = {key: value.clone() for key, value in model.state_dict().items()}
    modes = [m.training for m in model.modules()]
    images = tiny.batch(0, 3, seed=1)[0]
    plain, whole = model.weak_view(images), model.weak_view(images, encoder=True)
    assert every.differing(before, model.state_dict()) == []
    assert modes == [m.training for m in model.modules()]
    net = copy.deepcopy(getattr(model, model.labeler)).eval()
    with torch.no_grad():
        logits, stage = net.encode_decode(images, metas_of(images)), net.backbone(images)[-1]
    assert not plain.logits.requires_grad and torch.equal(plain.logits, whole.logits)
    if case.kind != 'PseudoSeg':  # whose class maps have a say, too
        torch.testing.assert_close(plain.logits, logits)
    assert plain.encoder is None
    torch.testing.assert_close(whole.encoder, stage)
    if getattr(case.cfg, 'contrast', False):
        head, seen = net.decode_head, []
        head.conv_seg.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
        with torch.no_grad():
            net(images, mode='tensor')
            want = copy.deepcopy(model.teacher_projector).eval()(seen[0])
        torch.testing.assert_close(plain.embedding, want)
    else:
        assert plain.embedding is None
