"""The demo's drawn data set: the same each time, complete, and without masks where none belong."""
import hashlib
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / 'tools' / 'demo'))
import synthetic  # noqa: E402

COUNTS = dict(labeled=12, unlabeled=5, test=6)


def digest(folder):
    return {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
            for p in sorted(folder.rglob('*')) if p.is_file()}


@pytest.fixture(scope='module')
def drawn(tmp_path_factory):
    return synthetic.make_dataset(tmp_path_factory.mktemp('demo') / 'data', seed=0, **COUNTS)


def test_two_drawings_have_the_same_bytes(drawn, tmp_path):
    again = synthetic.make_dataset(tmp_path / 'data', seed=0, **COUNTS)
    assert digest(again) == digest(drawn)


def test_an_image_does_not_depend_on_the_others(drawn):
    image, label = synthetic.draw_scene(0, 'test', 4)
    assert np.array_equal(image, np.asarray(Image.open(drawn / 'images/test/test_0004.png')))
    assert np.array_equal(label, np.asarray(Image.open(drawn / 'masks/test/test_0004.png')))


def test_seeds_splits_and_indices_give_different_images():
    drawings = [synthetic.draw_scene(*which)[0].tobytes()
                for which in [(0, 'test', 0), (1, 'test', 0), (0, 'test', 1),
                              (0, 'train_labeled', 0), (0, 'train_unlabeled', 0)]]
    assert len(set(drawings)) == 5


def test_layout(drawn):
    labeled = (drawn / 'labeled.txt').read_text().split()
    unlabeled = (drawn / 'unlabeled.txt').read_text().split()
    assert (len(labeled), len(unlabeled)) == (COUNTS['labeled'], COUNTS['unlabeled'])

    def stems(folder):
        return sorted(p.stem for p in (drawn / folder).iterdir())
    assert stems('images/train') == sorted(labeled + unlabeled)
    assert len(stems('images/test')) == COUNTS['test']
    assert stems('masks/test') == stems('images/test')


def test_no_mask_for_an_unlabelled_image(drawn):
    with_mask = {p.stem for p in drawn.rglob('masks/train/*')}
    assert with_mask == set((drawn / 'labeled.txt').read_text().split())
    assert not with_mask & set((drawn / 'unlabeled.txt').read_text().split())


@pytest.mark.parametrize('folder', ['train', 'test'])
def test_masks_are_crisp_and_fit_their_images(drawn, folder):
    for path in (drawn / 'masks' / folder).iterdir():
        label = np.asarray(Image.open(path))
        image = np.asarray(Image.open(drawn / 'images' / folder / path.name))
        assert label.dtype == np.uint8 and label.max() < len(synthetic.CLASSES)
        assert image.shape == (*label.shape, 3) == (synthetic.HEIGHT, synthetic.WIDTH, 3)
        assert image.std() > 5  # something is to be seen


@pytest.mark.parametrize('seed', [0, 1, 2])
def test_labelled_images_show_every_class(seed):
    labels = [synthetic.draw_scene(seed, 'train_labeled', i)[1] for i in range(12)]
    pixels = np.bincount(np.concatenate([m.ravel() for m in labels]),
                         minlength=len(synthetic.CLASSES))
    assert (pixels > 500).all(), dict(zip(synthetic.CLASSES, pixels))


def test_a_finished_folder_is_left_alone_and_another_recipe_redraws(tmp_path):
    small = dict(labeled=1, unlabeled=1, test=1)
    out = synthetic.make_dataset(tmp_path / 'data', seed=0, **small)
    picture = out / 'images/test/test_0000.png'
    first = picture.stat().st_mtime_ns
    synthetic.make_dataset(out, seed=0, **small)
    assert picture.stat().st_mtime_ns == first
    before = picture.read_bytes()
    synthetic.make_dataset(out, seed=1, **small)
    assert picture.read_bytes() != before


def test_a_drawing_cut_short_is_redone(tmp_path, monkeypatch):
    small, write = dict(labeled=1, unlabeled=1, test=1), synthetic._write

    def fail(path, array):
        if path.parts[-3:-1] == ('images', 'test'):
            raise OSError('disk full')
        write(path, array)
    monkeypatch.setattr(synthetic, '_write', fail)
    with pytest.raises(OSError, match='disk full'):
        synthetic.make_dataset(tmp_path / 'data', **small)
    monkeypatch.undo()
    out = synthetic.make_dataset(tmp_path / 'data', **small)
    assert (out / 'masks/test/test_0000.png').is_file()


@pytest.mark.parametrize('stamp', [None, '{"version": 3}', '[]', '{"version'])
def test_a_foreign_folder_is_not_deleted(tmp_path, stamp):
    """Nor one with another program's stamp.json."""
    (tmp_path / 'thesis.tex').write_text('years of work')
    if stamp:
        (tmp_path / 'stamp.json').write_text(stamp)
    with pytest.raises(FileExistsError, match='--out'):
        synthetic.make_dataset(tmp_path, labeled=1, unlabeled=1, test=1)
    assert (tmp_path / 'thesis.tex').is_file()


def test_a_file_in_the_folders_place_is_named(tmp_path):
    (tmp_path / 'data').write_text('a file')
    with pytest.raises(FileExistsError, match='data exists and was not written by the demo'):
        synthetic.make_dataset(tmp_path / 'data', labeled=1, unlabeled=1, test=1)


def test_the_sheet_has_its_rows_whatever_was_drawn(tmp_path):
    """Images of three kinds first, then others."""
    from pictures import chosen_stems
    (tmp_path / 'masks/test').mkdir(parents=True)
    for stem, kinds in (('a', 2), ('b', 4), ('c', 1), ('d', 3)):
        label = np.arange(25).reshape(5, 5).astype(np.uint8) % (kinds + 1)
        Image.fromarray(label).save(tmp_path / f'masks/test/{stem}.png')
    assert chosen_stems(tmp_path, 6) == ['b', 'd', 'a', 'c']
    assert chosen_stems(tmp_path, 3) == ['b', 'd', 'a']
