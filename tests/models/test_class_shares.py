"""Shares of classes over steps: what counts, what a refused step leaves, what is saved."""
import forked
import numpy as np
import pytest
import torch
from mmengine.dist import get_rank

from mmseg_esl import stack
from mmseg_esl.models.class_shares import FIRST, ClassShares


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


def test_what_labelled_images_do_not_refute_against_numpy():
    """Shares within the margin stay, others go to its nearer end; none falls below its first."""
    shares, images, predicted = ClassShares(3, momentum=0.9, spread=True), [], []
    weights, steps = [], FIRST + 5
    for seed in range(steps):
        labels, probs, valid = step(shares, seed)
        shares.commit()
        for one in labels:
            counts = np.bincount(one[(one >= 0) & (one < 3)].flatten(), minlength=3)
            images.append(counts / counts.sum())
            weights.append(0.9 ** (steps - 1 - seed) / 2)
        mass = probs.permute(0, 2, 3, 1)[valid].sum(0).numpy()
        predicted.append(mass / mass.sum())
    mean = (shares.labeled / shares.labeled.sum()).numpy()
    square = np.average(np.array(images) ** 2, axis=0, weights=weights)
    error = np.sqrt((square - mean ** 2) / 6)
    first = np.mean(predicted[:FIRST], axis=0)
    later = np.average(predicted, axis=0, weights=weights[::2])
    found = np.maximum(first, later)
    assert (first > later).any() and (later > first).any()
    for margin in (0.1, 0.3, 1):
        want = np.clip(found, mean - margin * error, mean + margin * error)
        np.testing.assert_allclose(shares.believed(6, margin), want, rtol=1e-9)
    want = np.clip(found, mean - 0.3 * error, mean + 0.3 * error)
    assert 0 < (want == found).sum() < 3, (want, found)  # one is within, one is not
    np.testing.assert_allclose(shares.believed(6, 0), mean, rtol=1e-12)
    for images, margin in ((6, 1e9), (0, 0.4)):  # 0: how many there are is not known
        np.testing.assert_allclose(shares.believed(images, margin), found, rtol=1e-9)


def test_images_without_a_label_say_nothing_of_the_spread():
    shares, without = ClassShares(2, spread=True), ClassShares(2, spread=True)
    labels = torch.tensor([[[0, 1, 1]], [[0, 0, 0]]])
    shares.see_labels(labels)
    without.see_labels(torch.cat([labels, torch.full((3, 1, 3), -1)]))
    assert torch.equal(shares.squares, without.squares)


def test_a_refused_step_leaves_no_spread():
    shares = ClassShares(3, spread=True)
    step(shares, 0)
    shares.rollback()
    assert all(not value.any() for value in shares.state_dict().values())


def several_ranks(folder):
    """Two images a rank, of which the last has no label."""
    stack.start_gloo('pytorch', timeout=60)
    labels, probs, valid = drawn()
    mine = slice(0, 2) if get_rank() == 0 else slice(2, 4)
    shares = ClassShares(3, spread=True)
    shares.see_labels(labels[mine])
    shares.see_predictions(probs[mine], valid[mine])
    torch.save(shares.state_dict(), folder / f'{get_rank()}.pth')


def drawn():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(-1, 3, (4, 3, 5), generator=generator)
    labels[3] = -1
    probs = torch.rand(4, 3, 4, 4, dtype=torch.float64, generator=generator).softmax(1)
    return labels, probs, torch.rand(4, 4, 4, generator=generator) < 0.7


def test_two_ranks_share_what_one_process_sees(tmp_path):
    forked.on_ranks(several_ranks, tmp_path)
    alone, (labels, probs, valid) = ClassShares(3, spread=True), drawn()
    alone.see_labels(labels)
    alone.see_predictions(probs, valid)
    for rank in range(2):
        found = torch.load(tmp_path / f'{rank}.pth', weights_only=True)
        for key, value in alone.state_dict().items():
            torch.testing.assert_close(found[key], value, rtol=1e-12, atol=0)
