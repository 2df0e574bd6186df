"""UniMatch against a second implementation, and against FixMatch."""
from __future__ import annotations

import pytest
import straight
import tiny
import torch
import torch.nn.functional as F

TAU = 0.6


@pytest.mark.parametrize('labels_by', ['student', 'teacher'])
def test_against_a_straight_line(labels_by):
    model = straight.settle(tiny.method(
        'UniMatch', sharp=1.0, threshold=TAU, labels_by=labels_by, ema_momentum=0.4,
        cutmix_prob=0.8, feature_drop=0.3).double())
    nets = {name: straight.Net(getattr(model, name)) for name in model.roles}
    student, labeler = nets['student'], nets[labels_by]

    def reference(number, images, labels, views):
        valid, unknown = labels[2:] != 255, images[2:]
        inside = straight.best(labeler.frozen(unknown))
        feats = student.encode(images)
        dropped = []  # whole channels of an image, the others scaled up
        for level in feats:
            mask = F.dropout2d(torch.ones_like(level), 0.3)
            assert set(mask.unique().tolist()) <= {0.0, 1 / 0.7}
            assert torch.equal(mask, mask[..., :1, :1].expand_as(mask))
            dropped.append(level * mask)
        logits = student.decode([torch.cat(pair) for pair in zip(feats, dropped)])
        pseudo = inside if labels_by == 'teacher' else straight.best(logits[2:5])

        def term(out, classes, sure, counts):
            ce = straight.entropies(out, classes)
            return (ce * (sure >= TAU) * counts).sum() / valid.sum()

        strong = student(torch.cat([straight.cut(boxes, unknown) for boxes in views]))
        terms = [0.5 * term(logits[7:], *pseudo, valid)]
        for out, boxes in zip((strong[:3], strong[3:]), views):
            mixed = [straight.cut(boxes, a, b) for a, b in zip(pseudo, inside)]
            terms.append(0.25 * term(out, *mixed, straight.cut(boxes, valid)))
        assert not torch.equal(*views)
        losses = {'decode.loss_ce': straight.supervised(logits[:2], labels[:2]) / 2,
                  'loss_u': sum(terms) / 2}
        found = straight.stepped(losses, student)
        if labels_by == 'teacher':
            labeler.follow(student, min(1 - 1 / (number + 1), 0.4))
        return found

    straight.compare(model, reference, nets)


@pytest.mark.parametrize('labels_by', ['student', 'teacher'])
def test_one_strong_view_and_no_dropped_features_is_fixmatch(labels_by):
    """Where batch norm does not couple the views: in training mode they share other batches."""
    found = []
    for kind, keys in (('FixMatch', {}),
                       ('UniMatch', dict(strong_weights=(1, 0), feature_weight=0))):
        model = straight.settle(tiny.method(
            kind, sharp=1.0, threshold=TAU, labels_by=labels_by, cutmix_prob=1.0,
            **keys).double()).eval()
        first, strong = [], model.strong

        def same(weak, strong=strong, first=first):  # the first boxes are the same in both
            torch.manual_seed(len(first))
            first.append(1)
            return strong(weak)

        model.strong = same
        inputs, samples = tiny.batch(2, 3)
        losses = model.loss(inputs.double(), samples)
        tiny.total(losses).backward()
        found.append((losses['loss_u'].detach(), losses['decode.loss_ce'].detach(),
                      *(p.grad for p in model.student.parameters())))
    assert found[0][0] > 0
    for a, b in zip(*found):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def test_weights_add_up():
    """All terms 1, the loss is 1: the weights of the halves and within them."""
    cfg = tiny.MODELS.get('UniMatch').parse_cfg({})
    unlabeled = cfg.unlabeled_weight * (sum(cfg.strong_weights) + cfg.feature_weight)
    assert cfg.supervised_weight + unlabeled == 1


def test_labelled_dropped_features_count_nowhere():
    """Only batch norm sees them, and none does in eval mode."""
    found = []
    for spoilt in (False, True):
        model = straight.settle(tiny.method('UniMatch', sharp=1.0, threshold=0.4)).eval()
        head, calls = model.student.decode_head, []

        def spoil(module, args, head=head, calls=calls, spoilt=spoilt):
            calls.append(len(args[0][0]))
            if spoilt and calls[-1] == 8:  # labelled, weak, labelled dropped, weak dropped
                return ([torch.cat([f[:4], 0 * f[4:6], f[6:]]) for f in args[0]], *args[1:])

        head.register_forward_pre_hook(spoil)
        torch.manual_seed(1)
        found.append({k: v.detach() for k, v in model.loss(*tiny.batch()).items()})
        assert calls.count(8) == 1
    assert found[0]['loss_u'] > 0 and found[0] == found[1]


@pytest.mark.parametrize('keys, message', [
    (dict(strong_weights=(1, )), 'strong_weights.*two'), (dict(feature_drop=2), 'feature_drop')])
def test_bad_keys(keys, message):
    with pytest.raises(ValueError, match=message):
        tiny.method('UniMatch', **keys)


def test_a_decoder_without_a_seam_is_refused():
    model = tiny.method('UniMatch', tiny.cascade())
    with pytest.raises(TypeError, match='perturb.*CascadeEncoderDecoder'):
        model.loss(*tiny.batch())
    model = tiny.method('UniMatch', joint_forward=False)
    with pytest.raises(TypeError, match='joint_forward'):
        model.loss(*tiny.batch())


def test_without_dropped_channels_the_second_decoder_pass_is_the_first():
    model = straight.settle(tiny.method('UniMatch', sharp=1.0, feature_drop=0.0)).eval()
    seen = []
    model.student.decode_head.register_forward_hook(
        lambda module, args, out: seen.append(out.detach()))
    model.loss(*tiny.batch())
    both, = (out for out in seen if len(out) == 8)
    torch.testing.assert_close(both[:4], both[4:], rtol=1e-6, atol=1e-6)
