"""The audit's counts against loops over pixels, scikit-learn's bins and torch's own resize."""
import json
import math

import numpy as np
import pytest
import torch
from sklearn.calibration import calibration_curve

from mmseg_esl.functional import dynamic_soft_label, nearest
from mmseg_esl.looks import Look, PseudoLabelAudit
from mmseg_esl.looks.audit import resized

C, K, ZETA, BINS = 4, 3, 0.6, 5


def made_up(seed, size=(7, 6), images=2, parts=True):
    """A look and a truth: noisy, with void pixels, a class that is never called, one never true."""
    gen = torch.Generator().manual_seed(seed)
    truth = torch.randint(0, C - 1, (images, *size), generator=gen)  # class 3 is never true
    logits = 2 * torch.randn(images, C, *size, generator=gen)
    logits.scatter_add_(1, truth[:, None], torch.full((images, 1, *size), 1.5))
    logits[:, 2] = -5  # never called, and never dominant
    truth[torch.rand(truth.shape, generator=gen) < 0.1] = 255
    truth[0, 0, 0] = -1
    probs = logits.softmax(dim=1)
    confidence, classes = probs.max(dim=1)
    target, number = dynamic_soft_label(probs, mass=0.9)
    # parts are found at another resolution: their class is not everywhere the pixel's
    coarse = nearest(nearest(classes, (3, 3)), size)
    chosen = coarse * K + torch.randint(K, classes.shape, generator=gen)
    chosen[0, 1, 1] = -1
    return Look(probs, classes, confidence, target, number, classes,
                parts=chosen if parts else None), truth


def audited(*pairs, num_parts=K, bins=BINS):
    audit = PseudoLabelAudit(C, num_parts, bins=bins, mass=0.9, confidence=ZETA)
    for look, truth in pairs:
        audit.update(look, truth)
    return audit


def share(these, of):
    return len(these) / len(of) if of else None


def calibration_error(pixels):
    """Of dicts with 'confidence' and 'right': by the definition, bin after bin."""
    total = 0.0
    for b in range(BINS):
        inside = [p for p in pixels if b / BINS < p['confidence'] <= (b + 1) / BINS]
        if inside:
            accuracy = sum(p['right'] for p in inside) / len(inside)
            mean = math.fsum(p['confidence'] for p in inside) / len(inside)
            total += len(inside) / len(pixels) * abs(accuracy - mean)
    return total if pixels else None


def naive(pairs):
    """Everything that result() gives, pixel after pixel in plain Python."""
    pixels = []
    for look, truth in pairs:
        for b, y, x in np.ndindex(*truth.shape):
            true = int(truth[b, y, x])
            if not 0 <= true < C:
                continue
            probs = [float(look.probs[b, c, y, x]) for c in range(C)]
            order, held, dominant = sorted(range(C), key=lambda c: -probs[c]), 0.0, set()
            for c in order:
                dominant.add(c)
                held += probs[c]
                if held >= 0.9:
                    break
            called, mass = order[0], sum(probs[c] for c in dominant)
            part = None if look.parts is None else int(look.parts[b, y, x])
            pixels.append(dict(
                true=true, called=called, confidence=probs[called], right=called == true,
                dominant=dominant, part=part, hit=true in dominant,
                soft=[probs[c] / mass if c in dominant else 0.0 for c in range(C)]))
    n = len(pixels)

    def of(**wanted):
        return [p for p in pixels if all(p[k] == v for k, v in wanted.items())]

    per_class = {name: [] for name in (
        'precision', 'recall', 'coverage', 'ece', 'hard_accuracy', 'soft_hit_rate', 'hard_share',
        'soft_share', 'true_share')}
    parts = dict(usage=[], entropy=[], purity=[], part_purity=[])
    for c in range(C):
        called, true = of(called=c), of(true=c)
        both = of(called=c, true=c)
        sure = [p for p in called if p['confidence'] > ZETA]
        for name, value in dict(
                precision=share(both, called), recall=share(both, true),
                coverage=share(sure, called), ece=calibration_error(called),
                hard_accuracy=share(both, true), soft_hit_rate=share(of(true=c, hit=True), true),
                hard_share=len(called) / n, soft_share=math.fsum(p['soft'][c] for p in pixels) / n,
                true_share=len(true) / n).items():
            per_class[name].append(value)
        own = [of(part=c * K + k) for k in range(K)]
        every = [p for group in own for p in group]
        usage = [share(group, every) for group in own]
        parts['usage'].append(usage)
        parts['entropy'].append(
            -sum(u * math.log(u) for u in usage if u) / math.log(K) if every else None)
        parts['purity'].append(share([p for p in every if p['true'] == c], every))
        parts['part_purity'].append(
            [share([p for p in group if p['true'] == c], group) for group in own])
    sizes = [len(p['dominant']) for p in pixels]
    return {
        'schema': 1, 'iter': 7, 'images': sum(len(truth) for _, truth in pairs), 'pixels': n,
        'classes': list('abcd'), 'num_parts': K, 'mass': 0.9, 'confidence': ZETA,
        'hard_accuracy': share(of(right=True), pixels),
        'soft_hit_rate': share(of(hit=True), pixels),
        'ece': calibration_error(pixels),
        'dominant': {'1': sizes.count(1) / n, '2': sizes.count(2) / n,
                     '3+': sum(s >= 3 for s in sizes) / n},
        'per_class': per_class, 'parts': parts}


def same(found, wanted, at=''):
    """Same keys in the same order, and figures that agree."""
    if isinstance(wanted, dict):
        assert list(found) == list(wanted), at
        for key in wanted:
            same(found[key], wanted[key], f'{at}.{key}')
    elif isinstance(wanted, list):
        assert len(found) == len(wanted), at
        for i, (a, b) in enumerate(zip(found, wanted)):
            same(a, b, f'{at}[{i}]')
    else:
        assert type(found) is type(wanted), (at, found, wanted)
        assert found == (pytest.approx(wanted, rel=1e-6, abs=1e-8)
                         if isinstance(wanted, float) else wanted), (at, found, wanted)


@pytest.mark.parametrize('seed', range(4))
def test_every_figure_is_that_of_a_loop_over_pixels(seed):
    pairs = [made_up(seed), made_up(100 + seed, size=(5, 9), images=1)]
    found = audited(*pairs).result('abcd', 7)
    wanted = naive(pairs)
    same(found, wanted)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found['per_class']['precision'][2] is None and found['per_class']['recall'][3] is None
    assert 0.3 < found['hard_accuracy'] < found['soft_hit_rate'] < 1
    assert found['parts']['purity'] != found['per_class']['precision']


def test_calibration_error_by_scikit_learn():
    look, truth = made_up(3, size=(40, 50))
    found = audited((look, truth), bins=15).result('abcd')
    known = (truth >= 0) & (truth < C)

    def error(chosen):
        confidence = look.confidence[chosen].double().numpy()
        right = (look.classes == truth)[chosen].numpy()
        pixels = np.histogram(confidence, bins=15, range=(0, 1))[0]
        accuracy, mean = calibration_curve(right, confidence, n_bins=15, strategy='uniform')
        return (pixels[pixels > 0] / pixels.sum() * abs(accuracy - mean)).sum()

    assert found['ece'] == pytest.approx(error(known), rel=1e-9)
    for c in (0, 1, 3):
        wanted = error(known & (look.classes == c))
        assert found['per_class']['ece'][c] == pytest.approx(wanted, rel=1e-9)
    assert found['ece'] > 0.01


def test_merged_audits_are_the_audit_of_all():
    pairs = [made_up(seed) for seed in range(3)]
    total = audited(pairs[0])
    total.merge(audited(*pairs[1:]))
    whole = audited(*pairs)
    for name, count in whole.counts.items():
        torch.testing.assert_close(total.counts[name], count, rtol=1e-12, atol=0)
    sizes = {name: count.shape for name, count in audited().counts.items()}
    assert sizes == {name: count.shape for name, count in whole.counts.items()}


@pytest.mark.parametrize('change', [
    dict(bins=1), dict(num_parts=1), dict(num_parts=None), dict(mass=0.5), dict(confidence=0.5)])
def test_audits_made_otherwise_are_not_merged(change):
    """Counts of one bin or part would be added to each of several."""
    own = dict(num_parts=K, bins=BINS, mass=0.9, confidence=ZETA)
    key, = change
    with pytest.raises(ValueError, match=f'audits of {key}={own[key]} and {key}={change[key]} do'):
        PseudoLabelAudit(C, **own).merge(PseudoLabelAudit(C, **{**own, **change}))


def test_without_parts_and_without_a_known_pixel():
    look, truth = made_up(0, parts=False)
    found = audited((look, torch.full_like(truth, 255)), num_parts=None).result('abcd')
    assert found['parts'] is None and found['num_parts'] is None and found['pixels'] == 0
    assert found['hard_accuracy'] is None and set(found['per_class']['ece']) == {None}
    json.dumps(found, allow_nan=False)
    single = audited(made_up(0)).counts
    look, truth = made_up(0)
    look.parts = look.parts.div(K, rounding_mode='floor')
    alone = audited((look, truth), num_parts=1).result('abcd')['parts']
    assert alone['entropy'] == [None] * C and alone['usage'][0] == [1.0]
    assert alone['purity'][0] == pytest.approx(
        float(single['part_right'][0].sum() / single['part_pixels'][0].sum()))


def test_entropy_goes_by_the_parts_in_use():
    look, truth = made_up(0)
    mask = torch.ones(C, K, dtype=torch.bool)
    mask[1, 1:], mask[3, 2:] = False, False
    # part k of the class becomes part k modulo what is in use
    owner, part = look.parts.div(K, rounding_mode='floor'), look.parts % K
    look.parts = torch.where(look.parts >= 0, owner * K + part % mask.sum(dim=1)[owner], -1)
    audit = PseudoLabelAudit(C, K, mass=0.9, confidence=ZETA, part_mask=mask)
    audit.update(look, truth)
    parts = audit.result('abcd')['parts']
    assert parts['entropy'][1] is None and parts['usage'][1] == [1.0] + [0.0] * (K - 1)
    usage = np.array(parts['usage'][3][:2])
    assert parts['entropy'][3] == pytest.approx(-(usage * np.log2(usage)).sum())
    assert parts['entropy'][0] == audited((look, truth)).result('abcd')['parts']['entropy'][0]


@pytest.mark.parametrize('corners', [False, True])
def test_a_look_is_resized_by_its_logits_and_without_its_padding(corners):
    gen = torch.Generator().manual_seed(0)
    logits = 4 * torch.randn(1, C, 8, 12, generator=gen)
    look, _ = made_up(0, size=(8, 12), images=1)
    look.probs = logits.softmax(dim=1)
    look.grouped = torch.randint(-1, C, (1, 8, 12), generator=gen)
    large = resized(look, (15, 20), mass=0.9, area=(6, 10), align_corners=corners)
    wanted = torch.nn.functional.interpolate(
        logits[..., :6, :10].double(), size=(15, 20), mode='bilinear',
        align_corners=corners).softmax(dim=1).float()
    torch.testing.assert_close(large.probs, wanted, rtol=1e-4, atol=1e-6)
    target, number = dynamic_soft_label(large.probs, mass=0.9)
    assert torch.equal(large.target, target) and torch.equal(large.size, number)
    assert torch.equal(large.classes, wanted.argmax(dim=1))
    for y, x in np.ndindex(15, 20):
        if corners:  # outer rows lie on each other
            row, column = math.floor(y * 5 / 14 + 0.5), math.floor(x * 9 / 19 + 0.5)
        else:  # the centre of a pixel lies in its nearest neighbour
            row, column = int((y + 0.5) * 6 / 15), int((x + 0.5) * 10 / 20)
        assert large.parts[0, y, x] == look.parts[0, row, column]
        assert large.grouped[0, y, x] == look.grouped[0, row, column]
    assert resized(look, (8, 12), mass=0.9) is look


def test_what_does_not_fit_is_named():
    look, truth = made_up(0)
    with pytest.raises(ValueError, match=r'truth has shape \(2, 7, 5\)'):
        audited((look, truth[..., :5]))
    with pytest.raises(ValueError, match='num_parts=3.*no parts'):
        audited(made_up(0, parts=False))
    with pytest.raises(ValueError, match='look is of 4 classes, the audit of 3'):
        PseudoLabelAudit(3, K).update(look, truth)
    with pytest.raises(ValueError, match='2 class names for 4'):
        audited((look, truth)).result('ab')
    with pytest.raises(ValueError, match='bins must be at least 1, got 0'):
        PseudoLabelAudit(C, bins=0)


def test_confidence_on_a_bound():
    """Zeta itself is not sure; a bin's upper bound belongs to it, as scikit-learn has it."""
    probs = torch.tensor([[0.5, 0.25, 0.75, 1.0]])
    probs = torch.stack([probs, 1 - probs, 0 * probs, 0 * probs])[None]
    confidence, classes = probs.max(dim=1)
    target, number = dynamic_soft_label(probs, mass=0.9)
    audit = PseudoLabelAudit(C, None, bins=4, mass=0.9, confidence=0.75)
    audit.update(Look(probs, classes, confidence, target, number, classes),
                 torch.zeros_like(classes))
    # confidences are 0.5, 0.75 (of class 1), 0.75, 1: bins (0.25, 0.5], (0.5, 0.75], (0.75, 1]
    assert audit.counts['covered'].tolist() == [1, 0, 0, 0]
    pixels = audit.counts['bin_pixels'].view(C, 4)
    assert pixels[:2].tolist() == [[0, 1, 1, 1], [0, 0, 1, 0]]
