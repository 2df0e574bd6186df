"""Pieces of masks against a flood fill, one place at a time."""
import pytest
import torch

from mmseg_esl.functional import component_boxes, components


def flood(mask):
    """Largest row-major index of each place's piece, -1 outside, and the pieces' places."""
    height, width = mask.shape
    out, pieces = torch.full((height, width), -1), {}
    for start in mask.nonzero().tolist():
        if out[tuple(start)] >= 0:
            continue
        piece, todo = {tuple(start)}, [tuple(start)]
        while todo:
            y, x = todo.pop()
            around = {(j, i) for j in (y - 1, y, y + 1) for i in (x - 1, x, x + 1)
                      if 0 <= j < height and 0 <= i < width and mask[j, i]}
            todo += around - piece
            piece |= around
        name = max(y * width + x for y, x in piece)
        pieces[name] = piece
        for place in piece:
            out[place] = name
    return out, pieces


def spiral(size):
    mask, row, col = torch.zeros(size, size, dtype=torch.bool), 0, 0
    mask[0, 0], legs = True, [size - 1] * 3 + [k for k in range(size - 3, 0, -2) for _ in '12']
    for i, leg in enumerate(legs):
        down, right = [(0, 1), (1, 0), (0, -1), (-1, 0)][i % 4]
        for _ in range(leg):
            row, col = row + down, col + right
            mask[row, col] = True
    return mask


def meander(size):
    mask = torch.zeros(size, size, dtype=torch.bool)
    mask[::2] = True
    for i, row in enumerate(range(1, size, 2)):
        mask[row, -1 if i % 2 else 0] = True
    return mask


def masks():
    gen = torch.Generator().manual_seed(0)
    for share in (0.0, 0.2, 0.4, 0.45, 0.5, 1.0):
        for size in ((13, 17), (1, 9), (9, 1), (1, 1), (33, 20)):
            yield torch.rand(size, generator=gen) < share
    for size in (9, 33, 49):
        for one in (spiral(size), meander(size)):
            yield from (one, one.flip(0), one.flip(1), one.T)


@pytest.mark.parametrize('mask', masks(), ids=lambda m: f'{tuple(m.shape)} {int(m.sum())}')
def test_against_a_flood_fill(mask):
    want, pieces = flood(mask)
    assert torch.equal(components(mask[None])[0], want)
    *edges, there = (x[0] for x in component_boxes(mask[None]))
    assert set(there.nonzero()[:, 0].tolist()) == set(pieces)
    for name, piece in pieces.items():
        rows, cols = zip(*piece)
        assert [int(e[name]) for e in edges] == [
            min(rows), max(rows) + 1, min(cols), max(cols) + 1]
    assert not any(e[~there].any() for e in edges)


@pytest.mark.parametrize('width, log2', [(1, 1), (2, 1), (3, 2), (64, 6), (65, 7)])
def test_twice_as_many_rounds_as_the_logarithm_says(width, log2, monkeypatch):
    pool, rounds = torch.nn.functional.max_pool2d, []
    monkeypatch.setattr(torch.nn.functional, 'max_pool2d',
                        lambda *args, **keys: rounds.append(1) or pool(*args, **keys))
    components(torch.ones(1, 1, width, dtype=torch.bool))
    assert len(rounds) == 2 * log2


def test_images_do_not_meet():
    both = torch.rand(2, 12, 15, generator=torch.Generator().manual_seed(1)) < 0.4
    assert torch.equal(components(both), torch.cat([components(both[:1]), components(both[1:])]))
