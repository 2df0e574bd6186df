"""Adaptive label injection against naive loops."""
import math

import pytest
import torch

from mmseg_esl.functional import Injection, centred_boxes, draw_injection, image_certainty


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


# ---------------------------------------------------------------------------------- certainty

def test_certainty_against_a_loop():
    logits = 2 * torch.randn(3, 5, 6, 7, generator=gen()).double()
    valid = torch.rand(3, 6, 7, generator=gen(1)) < 0.7
    found = image_certainty(logits, valid)
    for n in range(3):
        total = count = 0.0
        for y in range(6):
            for x in range(7):
                if valid[n, y, x]:
                    z = [math.exp(v) for v in logits[n, :, y, x].tolist()]
                    p = [v / sum(z) for v in z]
                    entropy = -sum(v * math.log(v) for v in p)
                    total += (1 - entropy / math.log(5)) * max(p)
                    count += 1
        assert found[n].item() == pytest.approx(total / count, rel=1e-12)


def test_certainty_of_uniform_and_of_one_hot():
    uniform, sharp = torch.zeros(1, 4, 3, 3), torch.zeros(1, 4, 3, 3)
    sharp[:, 2] = 200.0
    every = torch.ones(2, 3, 3, dtype=torch.bool)
    found = image_certainty(torch.cat([uniform, sharp]), every)
    torch.testing.assert_close(found, torch.tensor([0.0, 1.0]), rtol=0, atol=1e-6)
    assert (image_certainty(torch.cat([uniform, sharp]), ~every) == 0).all()
    alone = torch.zeros_like(every)
    alone[:, 1, 2] = True  # of one pixel the mean is its own
    found = image_certainty(torch.cat([uniform, sharp]), alone)
    torch.testing.assert_close(found, torch.tensor([0.0, 1.0]), rtol=0, atol=1e-6)
    assert image_certainty(sharp.bfloat16(), every[:1]).dtype == torch.float32
    assert not image_certainty(sharp.requires_grad_(), every[:1]).requires_grad


# -------------------------------------------------------------------------------------- boxes

@pytest.mark.parametrize('size', [(64, 64), (33, 81), (5, 4)])
@pytest.mark.parametrize('share', [0.0, 0.2, 0.5, 1.0])
def test_boxes_by_a_loop(size, share):
    boxes, again = centred_boxes(7, share, size, generator=gen(3)), gen(3)
    rows, columns = (torch.randint(side // 8, side, (7,), generator=again).tolist()
                     for side in size)
    for n in range(7):
        half_h, half_w = (int(side * math.sqrt(share)) // 2 for side in size)
        for y in range(size[0]):
            for x in range(size[1]):
                inside = (rows[n] - half_h <= y < rows[n] + half_h
                          and columns[n] - half_w <= x < columns[n] + half_w)
                assert boxes[n, y, x] == inside


def test_shares_are_those_of_the_two_betas():
    """Boxes that were not cut off at an edge have the whole size."""
    patches, boxes = [], []
    for seed in range(400):
        drawn = draw_injection(torch.zeros(16), (64, 64), generator=gen(seed))
        for masks, found in ((drawn.patches, patches), (drawn.boxes, boxes)):
            sides = masks.any(dim=2).sum(dim=1).amax()
            found.append(float(sides / 64) ** 2)
    patches, boxes = torch.tensor(patches), torch.tensor(boxes)
    # of 1 - Beta(8, 2) and 1 - Beta(4, 4): means and standard deviations, less what whole
    # numbers of pixels take away
    assert patches.mean() == pytest.approx(0.2, abs=0.02)
    assert boxes.mean() == pytest.approx(0.5, abs=0.03)
    assert patches.std() == pytest.approx(math.sqrt(8 * 2 / 100 / 11), abs=0.015)
    assert boxes.std() == pytest.approx(math.sqrt(4 * 4 / 64 / 9), abs=0.015)


def test_draws_follow_the_generator_alone():
    certainty = torch.full((6,), 0.5)
    state = torch.get_rng_state()
    one, two, other = (draw_injection(certainty, (20, 30), generator=gen(seed))
                       for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    for name in ('patches', 'boxes', 'partner'):
        assert torch.equal(getattr(one, name), getattr(two, name))
        assert not torch.equal(getattr(one, name), getattr(other, name))


def test_who_gets_a_patch():
    certainty = torch.tensor([0.0, 0.25, 0.9, 1.0])
    got = torch.zeros(4)
    partners = set()
    for seed in range(500):
        drawn = draw_injection(certainty, (64, 64), generator=gen(seed))
        got += drawn.patches.flatten(1).any(dim=1)
        assert sorted(drawn.partner.tolist()) == [0, 1, 2, 3]
        partners.add(tuple(drawn.partner.tolist()))
        assert drawn.boxes.flatten(1).any(dim=1).all()
    assert got[3] == 0 and got[0] >= 495  # now and then Beta(8, 2) leaves no pixel
    torch.testing.assert_close(got[1:3] / 500, torch.tensor([0.75, 0.1]), rtol=0, atol=0.06)
    assert len(partners) == 24


# --------------------------------------------------------------------------------------- mixing

def looped(drawn, x, labeled):
    """The release's two steps, a pixel at a time."""
    partner, mixed, out = drawn.partner.tolist(), x.clone(), x.clone()
    for i in range(len(x)):
        for y, z in drawn.patches[i].nonzero().tolist():
            mixed[i, ..., y, z] = labeled[partner[i] % len(labeled), ..., y, z]
    for i in range(len(x)):
        for y, z in drawn.boxes[i].nonzero().tolist():
            out[i, ..., y, z] = mixed[partner[i], ..., y, z]
    return out


@pytest.mark.parametrize('labeled', [1, 2, 3, 5])
def test_mix_against_a_loop(labeled):
    drawn = draw_injection(torch.zeros(3), (16, 18), generator=gen(5))
    for x, y in ((torch.randn(3, 3, 16, 18), torch.randn(labeled, 3, 16, 18)),
                 (torch.randint(9, (3, 16, 18)), torch.randint(9, (labeled, 16, 18))),
                 (torch.rand(3, 16, 18) < 0.5, torch.rand(labeled, 16, 18) < 0.5)):
        found = drawn.mix(x, y)
        assert torch.equal(found, looped(drawn, x, y)) and found.dtype == x.dtype
        assert not torch.equal(found, x)


def test_certain_images_are_mixed_as_by_plain_cutmix():
    drawn = draw_injection(torch.ones(3), (16, 16), generator=gen(1))
    x = torch.arange(3.0).view(3, 1, 1).expand(3, 16, 16)
    found = drawn.mix(x, torch.full((2, 16, 16), 9.0))
    for i in range(3):
        assert (found[i][drawn.boxes[i]] == drawn.partner[i]).all()
        assert (found[i][~drawn.boxes[i]] == i).all()


def test_patches_show_inside_boxes_alone():
    patches = torch.zeros(2, 6, 6, dtype=torch.bool)
    patches[1, 1:4, 1:4] = True
    boxes = torch.zeros(2, 6, 6, dtype=torch.bool)
    boxes[0, :3, :3] = True
    found = Injection(patches, boxes, torch.tensor([1, 0])).mix(
        torch.zeros(2, 6, 6), torch.ones(1, 6, 6))
    want = torch.zeros(2, 6, 6)
    want[0, 1:3, 1:3] = 1  # where the box of image 0 shows image 1 and that one has a patch
    assert torch.equal(found, want)
