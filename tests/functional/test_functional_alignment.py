"""Distribution alignment against a loop, and its limits."""
import pytest
import torch

from mmseg_esl.functional import align_classes


def probs(seed=0, shape=(2, 4, 3, 5)):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(shape, dtype=torch.float64, generator=generator).softmax(1)


@pytest.mark.parametrize('strength', [1.0, 0.5])
def test_against_a_loop(strength):
    p = probs()
    wanted, found = torch.tensor([5.0, 1, 2, 2]).double(), torch.tensor([1.0, 1, 1, 7]).double()
    out = align_classes(p, wanted, found, strength=strength)
    for n in range(2):
        for i in range(3):
            for j in range(5):
                raw = [float(p[n, c, i, j]) * ((float(wanted[c]) / 10 + 1e-6)
                                               / (float(found[c]) / 10 + 1e-6)) ** strength
                       for c in range(4)]
                want = torch.tensor([value / sum(raw) for value in raw], dtype=torch.float64)
                torch.testing.assert_close(out[n, :, i, j], want, rtol=1e-12, atol=1e-12)


def test_a_teacher_that_is_right_already_is_left_alone():
    p, shares = probs(), torch.tensor([5.0, 1, 2, 2]).double()
    torch.testing.assert_close(align_classes(p, shares, 3 * shares), p)
    torch.testing.assert_close(align_classes(p, shares, shares.flip(0), strength=0), p)


@pytest.mark.parametrize('wanted, found', [((0, 0, 0, 0), (5, 1, 2, 2)), ((5, 1, 2, 2), (0,) * 4)])
def test_what_is_not_known_yet_changes_nothing(wanted, found):
    p = probs()
    for limit in (10, 1e9):  # within the latter the classes would move unlike
        torch.testing.assert_close(align_classes(p, *(torch.tensor(x).double()
                                                      for x in (wanted, found)), limit=limit), p)


def test_a_class_that_was_hardly_met_does_not_jump():
    p = torch.tensor([0.9, 0.1]).double().view(1, 2, 1, 1)
    out = align_classes(p, torch.tensor([0.5, 0.5]), torch.tensor([1.0, 0.0]))
    # quotients 1/2 and, instead of 500000, 10
    torch.testing.assert_close(out.flatten(), torch.tensor([0.45, 1.0]).double() / 1.45,
                               rtol=1e-5, atol=1e-5)


def test_a_class_named_too_often_is_not_silenced():
    p = torch.tensor([0.9, 0.1]).double().view(1, 2, 1, 1)
    out = align_classes(p, torch.tensor([0.001, 0.999]), torch.tensor([0.5, 0.5]), limit=4)
    # quotients 1/4, not 1/500, and 1.998
    want = torch.tensor([0.225, 0.1998]).double()
    torch.testing.assert_close(out.flatten(), want / want.sum(), rtol=1e-4, atol=0)


def test_shares_are_of_any_scale():
    p, wanted = probs(), torch.tensor([5.0, 1, 2, 2]).double()
    want = align_classes(p, wanted, wanted.flip(0) + 1)
    for scale in (1e-6, 0.01, 100):
        torch.testing.assert_close(align_classes(p, scale * wanted, wanted.flip(0) + 1), want)
        torch.testing.assert_close(align_classes(p, wanted, scale * (wanted.flip(0) + 1)), want)


def test_it_moves_the_mean_towards_what_is_wanted():
    p, wanted = probs(shape=(1, 4, 20, 20)), torch.tensor([0.7, 0.1, 0.1, 0.1]).double()
    found = p.mean(dim=(0, 2, 3))
    moved = align_classes(p, wanted, found).mean(dim=(0, 2, 3))
    assert (moved - wanted).abs().sum() < (found - wanted).abs().sum() / 3
