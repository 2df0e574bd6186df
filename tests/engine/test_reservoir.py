"""The sample that K-means starts from: uniform over all pixels, and bounded in memory."""
import numpy as np
import pytest
import tiny
import torch
from PIL import Image
from scipy.stats import chisquare

from mmseg_esl.engine.hooks.part_init_hook import PartInitHook
from mmseg_esl.engine.hooks.reservoir import Reservoir

LIMIT = 200


@pytest.mark.parametrize('chunks', [[5], [3, 4], [50], [0, 7, 0, 30, 60, 1], [20, 20, 20]])
def test_against_sorting_everything(chunks):
    gen = torch.Generator().manual_seed(len(chunks))
    sample, feats, keys = Reservoir(20), [], []
    for size in chunks:
        feats.append(torch.randn(size, 3, generator=gen))
        keys.append(torch.rand(size, generator=gen))
        below = keys[-1] < sample.bound  # the others may be left out
        shown = feats[-1][below]
        before = shown.clone()
        sample.add(shown, keys[-1][below], size)
        assert torch.equal(shown, before)
    sample.sort()
    feats, keys = torch.cat(feats), torch.cat(keys)
    order = keys.argsort()[:20]
    assert sample.seen == len(keys)
    assert torch.equal(sample.feats, feats[order]) and torch.equal(sample.keys, keys[order])


def test_one_row():
    sample = Reservoir(1)
    for key in (0.5, 0.2, 0.3):
        sample.add(torch.full((1, 2), key), torch.tensor([key]), 1)
    assert (sample.feats.tolist(), sample.seen) == (torch.full((1, 2), 0.2).tolist(), 3)


def test_a_limit_below_one():
    with pytest.raises(ValueError, match='max_samples.*at least 1 row, got 0'):
        Reservoir(0)


def test_every_row_has_the_same_chance():
    gen, hits = torch.Generator().manual_seed(0), torch.zeros(60)
    for _ in range(800):
        sample = Reservoir(6)
        for chunk in torch.arange(60.0)[:, None].split(7):
            sample.add(chunk, torch.rand(len(chunk), generator=gen), len(chunk))
        hits[sample.feats[:, 0].long()] += 1
    # drawing without replacement makes counts less uneven than chisquare thinks, by 54 in 59
    assert 0.001 < chisquare(hits.numpy()).pvalue < 0.9999


def write_numbered(root, count):
    """Images of 8 x 8 pixels whose colour is their number; a few pixels of another class."""
    tiny.write_data(root, labeled=0, unlabeled=2)
    names = [f'a{i:03d}' for i in range(count)]
    (root / 'labeled.txt').write_text('\n'.join(names) + '\n')
    mask = np.zeros((8, 8), np.uint8)
    mask[0, :2] = 1
    mask[0, 2:] = 255
    for number, name in enumerate(names):
        colour = np.uint8([number // 250, number % 250, 0])
        Image.fromarray(np.broadcast_to(colour, (8, 8, 3)).copy()).save(root / f'img/{name}.png')
        Image.fromarray(mask).save(root / f'ann/{name}.png')


def extract(root, count, **options):
    """The hook's sample over ``count`` images; the backbone gives the image's number."""
    write_numbered(root, count)
    runner = tiny.runner(root / 'work', root, [])
    backbone = torch.nn.Conv2d(3, 4, 1)
    with torch.no_grad():  # undoes the normalisation
        backbone.weight.zero_()
        backbone.weight[0, :2, 0, 0] = torch.tensor([250.0, 1.0]) * 127.5
        backbone.bias.fill_(251 * 127.5)
    runner.model.teacher.backbone = backbone
    return PartInitHook(**options)._extract(runner, 3)


def test_what_is_kept_by_default(tmp_path, monkeypatch):
    """4096 pixels of a class, of the sample that is seed 0's; a line now and then says how far."""
    said = []
    monkeypatch.setattr('mmseg_esl.progress.EVERY', 0)
    monkeypatch.setattr('mmseg_esl.engine.hooks.part_init_hook.print_log',
                        lambda text, *args: said.append(text))
    one, two, other = (extract(tmp_path / str(number), 74, **options)[0] for number, options in
                       enumerate(({}, dict(seed=0, max_samples=4096), dict(seed=1))))
    assert one.seen == 74 * 56 and len(one.keys) == 4096
    assert torch.equal(one.keys, two.keys) and not torch.equal(one.keys, other.keys)
    assert said[0] == 'images read for the parts: 1 of 74'


def held(reservoir):
    return reservoir.feats.untyped_storage().nbytes()


def test_memory_does_not_grow_with_the_images(tmp_path):
    few, many = (extract(tmp_path / str(count), count, max_samples=LIMIT, seed=1)
                 for count in (50, 500))
    assert [r.seen for r in few] == [50 * 56, 50 * 2, 0]
    assert [r.seen for r in many] == [500 * 56, 500 * 2, 0]
    assert held(many[0]) == held(few[0]) == LIMIT * 4 * 4  # full, and no more
    assert len(few[1].keys) == 100 and held(many[1]) == LIMIT * 4 * 4
    for sample in many[:2]:  # ten groups of fifty images each, twenty pixels expected of each
        numbers = sample.feats[:, 0].round().long()
        assert numbers.min() >= 0 and numbers.max() < 500
        assert chisquare(torch.bincount(numbers // 50, minlength=10).numpy()).pvalue > 0.001
