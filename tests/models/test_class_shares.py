"""Shares of classes over steps: what counts, what a refused step leaves, what is saved."""
import pytest
import torch

from mmseg_esl.models.class_shares import ClassShares


def step(shares, seed):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(-1, 4, (2, 3, 5), generator=generator)
    probs = torch.rand(3, 3, 4, 4, dtype=torch.float64, generator=generator).softmax(1)
    valid = torch.rand(3, 4, 4, generator=generator) < 0.7
    shares.see_labels(labels)
    shares.see_predictions(probs, valid)
    return labels, probs, valid


def test_decaying_sums_against_a_loop():
    shares, want = ClassShares(3, momentum=0.9), {'labeled': [0.0] * 3, 'predicted': [0.0] * 3}
    for seed in range(4):
        labels, probs, valid = step(shares, seed)
        shares.commit()
        counts = [sum(int(v == c) for v in labels.flatten()) for c in range(3)]  # -1, 3: no class
        masses = [0.0] * 3
        for n, i, j in valid.nonzero().tolist():
            for c in range(3):
                masses[c] += float(probs[n, c, i, j])
        for name, found in (('labeled', counts), ('predicted', masses)):
            want[name] = [0.9 * old + new / sum(found) for old, new in zip(want[name], found)]
    for name, values in want.items():
        torch.testing.assert_close(getattr(shares, name), torch.tensor(values).double())


def test_a_refused_step_leaves_nothing():
    shares = ClassShares(3)
    step(shares, 0)
    shares.commit()
    before = {key: value.clone() for key, value in shares.state_dict().items()}
    step(shares, 1)
    shares.rollback()
    assert all(torch.equal(value, before[key]) for key, value in shares.state_dict().items())
    step(shares, 1)
    shares.commit()
    shares.rollback()  # nothing is staged
    assert not torch.equal(shares.labeled, before['labeled'])


def test_nothing_labelled_is_no_share():
    shares = ClassShares(3)
    shares.see_labels(torch.full((1, 2, 2), -1))
    shares.see_predictions(torch.rand(1, 3, 2, 2), torch.zeros(1, 2, 2, dtype=torch.bool))
    assert shares.labeled.sum() == 0 and shares.predicted.sum() == 0


def test_another_number_of_classes_starts_anew():
    shares = ClassShares(3)
    step(shares, 0)
    other = ClassShares(4)
    with pytest.warns(UserWarning, match='starts anew'):
        other.load_state_dict(shares.state_dict(), strict=False)
    assert other.labeled.sum() == 0
