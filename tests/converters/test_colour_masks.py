"""colour_masks.py on painted masks, against the numbers that they were painted from."""
import numpy as np
import pytest
from PIL import Image

PAINT = np.array([(0, 0, 0), (128, 64, 128), (0, 0, 142), (255, 255, 255)], np.uint8)
CLASSES = ('--classes', 'ground=0,0,0', 'road=128,64,128', 'car=0,0,142', 'ignore=255,255,255')


@pytest.fixture
def painted(tmp_path):
    """(folder, {name: class numbers}) of masks in RGB, with alpha, and of a palette."""
    rng, truth = np.random.default_rng(0), {}
    for name, mode in (('a.png', 'RGB'), ('city/b.bmp', 'RGB'), ('c.png', 'RGBA'), ('d.png', 'P')):
        numbers = rng.integers(0, 4, (9, 11))
        path = tmp_path / 'painted' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(PAINT[numbers]).convert('RGB' if mode == 'P' else mode)
        if mode == 'P':
            image = Image.fromarray(numbers.astype(np.uint8))
            image.putpalette(PAINT.ravel().tolist())
        image.save(path)
        truth[name.partition('.')[0]] = np.where(numbers == 3, 255, numbers)
    (tmp_path / 'painted/.hidden.png').write_text('no image')
    return tmp_path / 'painted', truth


def test_numbers_are_those_that_were_painted(painted, tmp_path, call):
    folder, truth = painted
    out = tmp_path / 'masks'
    assert '4 masks of 3 classes' in call('colour_masks', folder, '--out', out, *CLASSES)
    files = sorted(p.relative_to(out).as_posix() for p in out.rglob('*') if p.is_file())
    assert files == ['a.png', 'c.png', 'city/b.png', 'd.png']  # and nothing unfinished
    for name, wanted in truth.items():
        with Image.open(out / f'{name}.png') as image:
            assert image.mode == 'L' and np.array_equal(np.asarray(image), wanted), name
    said = call('colour_masks', folder)  # what --classes could be
    assert '4 colours in 4 masks' in said and all(
        f'={",".join(map(str, colour))}' in said for colour in PAINT)


def test_what_it_refuses(painted, tmp_path, call):
    """A colour of no class by file, colour and place, and no mask of that file; wrong words."""
    folder, out = painted[0], tmp_path / 'masks'
    pixels = np.asarray(Image.open(folder / 'a.png')).copy()
    pixels[5, 7] = (128, 64, 129)
    Image.fromarray(pixels).save(folder / 'a.png')
    said = call('colour_masks', folder, '--out', out, *CLASSES, '--workers', 1, status=1)
    assert "a.png' has the colour 128,64,129 at pixel (7, 5), which no class has (1 such" in said
    assert not (out / 'a.png').exists()
    from colour_masks import ConversionError, classes_of, masks_below
    for words, message in ((['a=1,2'], "'a=1,2' is not"), (['a=1,2,256'], 'is not NAME'),
                           (['a=1,2,3', 'b=1,2,3'], 'given twice')):
        with pytest.raises(ConversionError, match=message):
            classes_of(words)
    assert classes_of(['a=0,0,1', 'b=0,0,2', 'a=0,0,3']) == {1: 0, 2: 1, 3: 0}
    with pytest.raises(ConversionError, match='lies in'):
        masks_below(folder, folder / 'out')
    (folder / 'a.bmp').write_bytes((folder / 'a.png').read_bytes())
    with pytest.raises(ConversionError, match='two masks .* would become'):
        masks_below(folder, out)
