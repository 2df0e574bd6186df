"""CorrMatch against a second implementation, written from the description of its release."""
from __future__ import annotations

import math

import every
import pytest
import straight
import tiny
import torch
import torch.nn.functional as F

from mmseg_esl.functional import cutmix_masks_by_image, spread_labels

START = 0.4375  # a float32 holds it exactly
REGIONS = 10


def build(seg=None, **semi):
    keys = dict(dict(threshold=START, threshold_momentum=0.95, num_regions=REGIONS), **semi)
    model = tiny.method('CorrMatch', seg, sharp=1.0, **keys).double()
    with torch.no_grad():  # maps that are far from uniform
        for conv in (model.correlation.one, model.correlation.two):
            conv.weight.normal_(0, 0.3)
    return straight.settle(model)


class Head(straight.Net):
    """The correlation head's parts, run by themselves."""

    def maps(self, feats, valid):
        """``(B, n, n)``, rows over partners; its dropout is drawn as the step draws it."""
        net = self.net
        there = F.interpolate(valid[:, None].double(), feats.shape[2:], mode='nearest-exact')
        out = net.project.conv(feats * there)
        out = net.project.bn(out).relu()
        out = out * F.dropout2d(torch.ones_like(out), net.dropout.p)
        one, two = net.one(out).flatten(2), net.two(out).flatten(2)
        products = torch.einsum('bci,bcj->bij', one, two) / math.sqrt(one.shape[1])
        weights = products.exp() * there.flatten(1)[:, None]
        return weights / weights.sum(dim=2, keepdim=True)

    def gathered(self, logits, maps, valid):
        small = F.interpolate(logits.detach(), (4, 4), mode='bilinear')
        small = small * F.interpolate(valid[:, None].double(), (4, 4), mode='nearest-exact')
        out = torch.einsum('bci,bij->bcj', small.flatten(2), maps).unflatten(2, (4, 4))
        return F.interpolate(out, (32, 32), mode='bilinear')


def spread(classes, keep, regions, tau):
    """The release's loops over images and regions."""
    classes, kept = classes.clone(), keep.clone()
    for n, image in enumerate(regions):
        for region in image:
            inside = region & keep[n]
            if not inside.any() or inside.sum() / region.sum() < tau:
                continue
            found, counts = classes[n][inside].unique(return_counts=True)
            if counts.max() / counts.sum() > tau:
                classes[n][region] = found[counts.argmax()]
                kept[n] |= region
    return classes, kept


def test_against_a_straight_line():
    model = build(cutmix_prob=0.7, feature_drop=0.3, unlabeled_weight=0.6, strong_weight=0.3,
                  kl_weight=0.7, feature_weight=0.2, correlation_weight=0.4,
                  supervised_weight=0.3, labeled_correlation_weight=0.9)
    nets = dict(student=straight.Net(model.student), correlation=Head(model.correlation))
    student, head = nets['student'], nets['correlation']
    tau, changed, kept_share = START, [], []

    def reference(number, images, labels, views):
        nonlocal tau
        (boxes, ), unknown = views, images[2:]
        there = labels != 255
        valid = there[2:]
        filling = student.frozen(unknown)
        inside = straight.best(filling)
        feats = student.encode(images)
        dropped = [level * F.dropout2d(torch.ones_like(level), 0.3) for level in feats]
        logits = student.decode([torch.cat(pair) for pair in zip(feats, dropped)])
        plain, fp = logits[:5], logits[7:]
        maps = head.maps(feats[-1], there)
        correlated = head.gathered(plain, maps, there)
        classes, confidence = straight.best(plain[2:])
        highest = [confidence[valid & (classes == c)].max() for c in range(3)
                   if (valid & (classes == c)).any()]
        tau = 0.95 * tau + 0.05 * float(sum(highest) / len(highest))
        assert torch.equal(boxes, cutmix_masks_by_image(3, (32, 32), prob=0.7))

        counts = straight.cut(boxes, valid)
        strong = student.encode(straight.cut(boxes, unknown))
        out = student.decode(strong)
        strong_maps = head.maps(strong[-1], counts)
        strong_correlated = head.gathered(out, strong_maps, counts)
        mixed, sure = (straight.cut(boxes, a, b) for a, b in zip((classes, confidence), inside))
        keep = (sure >= tau) & counts
        rows = torch.randint(16, (REGIONS, ))
        small = F.interpolate(valid[:, None].double(), (4, 4), mode='nearest-exact').flatten(1) > 0
        regions = []
        for n in range(3):
            large = F.interpolate(maps[2 + n, rows].detach().view(1, -1, 4, 4), (32, 32),
                                  mode='bilinear')[0]
            low, high = (f(large.flatten(1), dim=1)[:, None, None]
                         for f in (torch.amin, torch.amax))
            regions.append(((large - low) / (high - low) > 0.5) & small[n, rows][:, None, None]
                           & counts[n] & ~boxes[n])
        target, kept = spread(mixed, keep, regions, tau)
        changed.append(int((target != mixed).sum()))
        kept_share.append((float(keep.double().mean()), float(kept.double().mean())))

        probs = straight.cut(boxes, plain[2:].detach().softmax(dim=1), filling.softmax(dim=1))
        divergence = (probs * (probs.log() - out.log_softmax(dim=1))).sum(dim=1)
        own = (confidence >= tau) & valid

        def mean(values, where, of):
            return (values * where).sum() / of.sum()

        ce = straight.entropies
        terms = (0.3 * mean(ce(out, target), kept, counts) + 0.7 * mean(divergence, keep, counts)
                 + 0.2 * mean(ce(fp, classes), own, valid)
                 + 0.4 * (mean(ce(strong_correlated, target), kept, counts)
                          + mean(ce(correlated[2:], classes), own, valid)) / 2)
        losses = {'decode.loss_ce': 0.3 * straight.supervised(plain[:2], labels[:2]),
                  'correlation.loss_ce': 0.9 * straight.supervised(correlated[:2], labels[:2]),
                  'loss_u': 0.6 * terms}
        return straight.stepped(losses, student, head)

    straight.compare(model, reference, nets)
    assert model.threshold.value.item() == pytest.approx(tau, rel=1e-10)
    assert all(changed) and all(0.05 < a < b < 1 for a, b in kept_share), (changed, kept_share)


def gradients(model, *keys):
    inputs, samples = tiny.batch(2, 3)
    losses = model.loss(inputs.double(), samples)
    sum(losses[key] for key in keys).backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def test_correlated_predictions_do_not_move_the_classifier():
    """They move the head, and the encoder through it."""
    found = gradients(build(), 'correlation.loss_ce')
    assert found['correlation.one.weight'].abs().sum() > 0
    assert found['correlation.project.conv.weight'].abs().sum() > 0
    assert found['student.backbone.stem.0.weight'].abs().sum() > 0
    assert not any(grad.any() for name, grad in found.items() if 'decode_head' in name)
    model = build(strong_weight=0, kl_weight=0, feature_weight=0, correlation_weight=1)
    found = gradients(model, 'loss_u')
    assert found['correlation.two.weight'].abs().sum() > 0
    assert not any(grad.any() for name, grad in found.items() if 'decode_head' in name)


def test_other_terms_do_not_move_the_correlation_head():
    model = build(correlation_weight=0)
    found = gradients(model, 'loss_u', 'decode.loss_ce')
    assert found['student.decode_head.conv_seg.weight'].abs().sum() > 0
    assert not any(grad.any() for name, grad in found.items() if name.startswith('correlation'))


def test_divergence_compares_the_same_images():
    """A network that sees one pixel at a time says the same of a mixed image as of its parts."""
    keys = dict(strong_weight=0, feature_weight=0, correlation_weight=0, kl_weight=1)
    model = build(every.pointwise(), cutmix_prob=1.0, threshold=0.2, **keys).eval()
    inputs, samples = tiny.batch(2, 3)
    boxes, strong = [], model.strong
    model.strong = lambda weak: boxes.append(strong(weak)) or boxes[-1]
    found = model.loss(inputs.double(), samples)['loss_u']
    probs = model.see('student', inputs[2:].double()).logits.softmax(dim=1)
    mixed = straight.cut(boxes[0].boxes, probs)
    assert found.abs() < 1e-12 and (mixed - probs).abs().mean() > 0.01


def test_the_threshold_goes_back_with_a_refused_step():
    model = build()
    inputs, samples = tiny.batch(2, 3)
    model.loss(inputs.double(), samples)
    assert model.threshold.value != START
    model.after_skipped_step()
    assert model.threshold.value == START
    model.loss(inputs.double(), samples)
    model.after_optimizer_step(0)
    assert 'threshold.value' in model.state_dict() and model.threshold.value != START


def test_weights_add_up():
    """As the release has them: halves of 0.5, 0.5 and four quarters."""
    cfg = tiny.MODELS.get('CorrMatch').parse_cfg({})
    inner = cfg.strong_weight + cfg.kl_weight + cfg.feature_weight + cfg.correlation_weight
    total = cfg.supervised_weight + cfg.labeled_correlation_weight + cfg.unlabeled_weight * inner
    assert total == 1 and cfg.strong_weight * cfg.unlabeled_weight == 0.25 / 2


@pytest.mark.parametrize('keys, message', [
    (dict(threshold=1.2), 'threshold.*1.2'), (dict(num_regions=0), 'num_regions.*positive')])
def test_bad_keys(keys, message):
    with pytest.raises(ValueError, match=message):
        build(**keys)


def test_a_decoder_without_a_seam_is_refused():
    with pytest.raises((TypeError, RuntimeError), match='CascadeEncoderDecoder|decode_head'):
        model = tiny.method('CorrMatch', tiny.cascade())
        model.loss(*tiny.batch())


def test_nothing_spreads_into_boxes_or_padding(monkeypatch):
    model, seen = build(cutmix_prob=1.0), []

    def spread(labels, keep, regions, threshold, num_classes):
        seen.append((labels, keep, regions, *spread_labels(
            labels, keep, regions, threshold, num_classes)))
        return seen[-1][-2:]

    strong, views = model.strong, []
    monkeypatch.setattr(model, 'strong', lambda weak: views.append(strong(weak)) or views[-1])
    monkeypatch.setattr('mmseg_esl.methods.corrmatch.spread_labels', spread)
    inputs, samples = tiny.batch(2, 3, ignored=6)
    model.loss(inputs.double(), samples)
    (labels, keep, regions, found, kept), boxes = seen[0], views[0].boxes
    spared = boxes.clone()
    spared[:, :, -6:] = True
    assert boxes.any() and regions.any() and not (regions & spared[:, None]).any()
    assert torch.equal(found[spared], labels[spared]) and torch.equal(kept[spared], keep[spared])
