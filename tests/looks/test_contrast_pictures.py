"""An anchor's pairs and the embedding, against loops."""
import numpy as np
import pytest
import torch
from drawing import check_legible, fill, pictures_in, view, words
from matplotlib.colors import to_hex

from mmseg_esl.looks import contrast
from mmseg_esl.looks.palette import class_colours, part_colours

NAMES = ('ground', 'thing', 'sky')
MANY = [f'a class with a name {i}' for i in range(21)]


def test_pair_map():
    parts = np.array([[0, 1, 2], [3, 1, -1]])
    assert contrast.pair_map(parts, (1, 0), 2).tolist() == [[1, 0, 2], [2, 0, -1]]


def test_similarities_and_bars():
    model, image, seen = view()
    memory = model.part_memory
    fill(memory, empty=(4,))
    pixel = (19, 9)
    found = contrast.similarities(seen, memory, pixel)
    height, width = seen.embedding.shape[-2:]
    anchor = seen.embedding[0, :, int(9 / 32 * height), int(19 / 32 * width)]
    for part in range(6):
        entries = [memory.queue[part, slot] for slot in range(int(memory.filled[part]))]
        if not entries:
            assert np.isnan(found[part]) and part == 4
            continue
        mean = sum(entries) / len(entries)
        wanted = torch.nn.functional.cosine_similarity(anchor, mean, dim=0).item()
        assert found[part] == pytest.approx(wanted, abs=1e-6)
    figure = contrast.pairs(image, seen, NAMES, memory, pixel=pixel)
    axis, own = figure.axes[1], int(seen.parts[0, 9, 19])
    order = sorted((part for part in range(6) if part != 4), key=lambda part: -found[part])
    np.testing.assert_allclose([bar.get_width() for bar in axis.patches], found[order], rtol=1e-6)
    assert [t.get_text() for t in axis.get_yticklabels()] == [
        f'{NAMES[part // 2]} {part % 2 + 1}' for part in order]
    wanted = [0 if part == own else 1 if part // 2 == own // 2 else 2 for part in order]
    assert [to_hex(bar.get_facecolor()) for bar in axis.patches] == [
        to_hex(contrast.PAIRS[kind] / 255) for kind in wanted]
    assert '5 of 6 parts; empty queues: 1' in words(figure)


def test_own_class_comes_first_where_not_all_bars_fit():
    model, image, seen = view(21, 10)
    fill(model.part_memory)
    figure = contrast.pairs(image, seen, MANY, model.part_memory)
    x, y = contrast.anchor_pixel(seen, 10)
    own = MANY[int(seen.parts[0, y, x]) // 10]
    labels = [t.get_text() for t in figure.axes[1].get_yticklabels()]
    assert {f'{own} {k}' for k in range(1, 11)} <= set(labels) and len(labels) < 210


def test_tint_leaves_pixels_without_part_grey():
    image = np.full((1, 4, 3), (30, 60, 90), np.uint8)
    tinted = contrast.tint(image, np.array([[-1, 0, 1, 2]]))
    assert tinted[0, 0].tolist() == [60] * 3
    for column, kind, strength in ((1, 0, 0.7), (2, 1, 0.7), (3, 2, 0.35)):
        wanted = (1 - strength) * 60 + strength * contrast.PAIRS[kind]
        np.testing.assert_allclose(tinted[0, column], wanted, atol=0.51)


def test_anchor_is_confident_and_of_a_class_with_parts():
    _, _, seen = view()
    seen.parts = torch.zeros(1, 10, 10, dtype=torch.long)
    seen.parts[0, 5:8], seen.parts[0, 7], seen.parts[0, 9, 9] = 2, 3, 4  # of 30, 10 and 1 pixels
    seen.confidence = torch.rand(1, 10, 10)
    seen.confidence[0, 0, 0] = 2  # the most confident of all, but its class has one part
    x, y = contrast.anchor_pixel(seen, 2)
    assert 5 <= y < 8 and seen.confidence[0, y, x] == seen.confidence[0, 5:8].max()
    seen.parts[:] = 0  # no class has two parts
    assert contrast.anchor_pixel(seen, 2) == (0, 0)


def test_a_pixel_without_part_is_refused():
    model, image, seen = view()
    seen.parts[0, 3, 4] = -1
    with pytest.raises(ValueError, match=r'pixel \(4, 3\) belongs to no part.*--pixel'):
        contrast.pairs(image, seen, NAMES, model.part_memory, pixel=(4, 3))


def test_empty_queues_are_said():
    model, image, seen = view()
    figure = contrast.pairs(image, seen, NAMES, model.part_memory)
    assert 'the part queues are empty' in words(figure)
    check_legible(figure)


def test_points():
    model, _, seen = view(queue=8)
    memory = model.part_memory
    fill(memory, empty=(1,))
    entries = contrast.queue_points(memory, limit=15)
    filled = memory.filled.tolist()
    assert np.bincount(entries.parts, minlength=6).tolist() == [min(3, n) for n in filled]
    norms = memory.queue / memory.queue.norm(dim=-1, keepdim=True).clamp(min=1e-12)
    for feature, part in zip(entries.features, entries.parts):  # each is an entry of its queue
        away = (norms[part, :filled[part]] - torch.tensor(feature)).abs().amax(dim=-1)
        assert away.min() < 1e-6
    pixels = contrast.pixel_points(seen, limit=20)
    assert len(pixels.parts) == 20 and pixels.pixels.all()
    rows, cols = seen.embedding.shape[-2:]
    unit = torch.nn.functional.normalize(seen.embedding[0], dim=0)
    for feature, part in zip(pixels.features, pixels.parts):  # a pixel of that part has it
        away = (unit - torch.tensor(feature)[:, None, None]).abs().amax(dim=0)
        y, x = divmod(int(away.argmin()), cols)
        assert away[y, x] < 1e-6 and part == seen.parts[0, y * 32 // rows, x * 32 // cols]


def test_embedding():
    model, _, seen = view(queue=8)
    fill(model.part_memory)
    points = contrast.join([contrast.queue_points(model.part_memory),
                            contrast.pixel_points(seen, limit=20)])
    colours = class_colours(NAMES)
    one, two = (contrast.embedding(points, NAMES, 2, colours) for _ in range(2))
    shades = part_colours(colours, 2) / 255
    pixels, entries = one.axes[0].collections
    np.testing.assert_allclose(entries.get_facecolors()[:, :3],
                               shades[points.parts[~points.pixels]])
    assert len(pixels.get_offsets()) == 20
    np.testing.assert_array_equal(entries.get_offsets(),
                                  two.axes[0].collections[1].get_offsets())
    owners = sorted({part // 2 for part in points.parts})
    assert [t.get_text() for t in one.legends[0].get_texts()] == [NAMES[c] for c in owners]
    check_legible(one)
    assert not pictures_in(one)


def test_too_few_points_are_refused():
    model, _, _ = view()
    points = contrast.queue_points(model.part_memory)
    with pytest.raises(ValueError, match='only 0 part features.*at least 10'):
        contrast.embedding(points, NAMES, 2, class_colours(NAMES))


@pytest.mark.parametrize('size', [(32, 32), (32, 128), (128, 32)])
def test_legible(size):
    model, image, seen = view(21, 10, size=size)
    fill(model.part_memory)
    check_legible(contrast.pairs(image, seen, MANY, model.part_memory))
