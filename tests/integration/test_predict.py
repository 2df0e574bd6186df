"""tools/predict.py against mmseg's own inference, on a trained project."""
import shutil

import numpy as np
import pytest
import torch
from commands import tool
from mmengine.config import Config
from mmseg.apis import inference_model, init_model
from mmseg.registry import MODELS
from PIL import Image

from mmseg_esl.predict import load_segmentor

RNG = np.random.default_rng(0)


@pytest.fixture(scope='module')
def photos(seeing, tmp_path_factory):
    """Seven images of three sizes and many kinds, in folders."""
    folder = tmp_path_factory.mktemp('photos')
    (folder / 'deep/er').mkdir(parents=True)
    images = seeing[0].parent / 'data/images/val'
    shutil.copy(images / 'val0.png', folder / 'a.png')
    shutil.copy(images / 'val1.png', folder / 'b.png')
    rgb = Image.open(images / 'val2.png')
    rgb.resize((100, 40)).save(folder / 'deep/c.JPG', format='JPEG')
    rgb.convert('L').save(folder / 'deep/grey.tif')
    rgb.convert('P').save(folder / 'deep/palette.png')
    alpha = Image.fromarray(RNG.integers(0, 256, (48, 64), dtype=np.uint8))
    Image.merge('RGBA', [*rgb.split(), alpha]).save(folder / 'deep/er/rgba.png')
    Image.fromarray(RNG.integers(0, 65536, (48, 64), dtype=np.uint16)).save(folder / 'deep/16.png')
    turned = rgb.getexif()
    turned[0x112] = 6  # a quarter turn
    rgb.resize((60, 44)).save(folder / 'turned.jpg', exif=turned)
    return folder


@pytest.fixture(scope='module')
def stock(seeing):
    """The wrapper, loaded by mmseg alone."""
    config, work = seeing
    return init_model(str(config), str(work / 'iter_6.pth'), device='cpu')


def call(monkeypatch, *args) -> int:
    with pytest.raises(SystemExit) as end:
        tool(monkeypatch, 'predict.py', '--device', 'cpu', *args)
    return end.value.code


def masks(folder) -> dict:
    return {path.relative_to(folder).with_suffix('').as_posix(): np.asarray(Image.open(path))
            for path in folder.rglob('*.png')}


def by_mmseg(model, photos) -> dict:
    return {path.relative_to(photos).with_suffix('').as_posix():
            inference_model(model, str(path)).pred_sem_seg.data[0].numpy()
            for path in photos.rglob('*') if path.is_file()}


def same(found: dict, expected: dict) -> None:
    assert found.keys() == expected.keys()
    for name in expected:
        assert np.array_equal(found[name], expected[name]), name


def test_equals_inference_model(seeing, photos, stock, monkeypatch, tmp_path, capsys):
    """Bit for bit, whatever the images are like; from the folder of the run."""
    assert call(monkeypatch, seeing[1], photos, '--out', tmp_path / 'out') == 0
    assert '8 images predicted' in capsys.readouterr().out
    found = masks(tmp_path / 'out')
    same(found, by_mmseg(stock, photos))
    assert found['turned'].shape == (60, 44)
    assert sum(len(np.unique(mask)) > 1 for mask in found.values()) > 4
    assert len(np.unique(np.concatenate([mask.ravel() for mask in found.values()]))) > 2


def test_logits_are_those_of_the_wrapper(seeing, photos, stock):
    config, work = seeing
    segmentor = load_segmentor(str(config), work / 'iter_6.pth')
    given, wanted = (inference_model(model, str(photos / 'a.png')).seg_logits.data
                     for model in (segmentor, stock))
    assert torch.equal(given, wanted)
    assert type(segmentor).__name__ == 'EncoderDecoder'


def test_batches(seeing, photos, stock, monkeypatch, tmp_path):
    """Equal sizes go together; what is between them does not disturb."""
    call(monkeypatch, seeing[1], photos, '--out', tmp_path / 'out', '--batch', 3)
    same(masks(tmp_path / 'out'), by_mmseg(stock, photos))


def test_the_student(seeing, photos, monkeypatch, tmp_path):
    """By option or by the config's own key."""
    config, work = seeing
    expected = expect_of(config, work / 'iter_6.pth', photos / 'deep', 'student')
    for number, args in enumerate((
            [work, work / 'iter_6.pth', photos / 'deep', '--network', 'student'],
            [config, work / 'iter_6.pth', photos / 'deep', '--cfg-options',
             'model.semi_test_cfg.predict_on=student'])):
        assert call(monkeypatch, '--out', tmp_path / str(number), *args) == 0
        same(masks(tmp_path / str(number)), expected)


def test_a_second_student(cps, photos, monkeypatch, tmp_path, capsys):
    """Of a method with other networks: with its config, and with the plain one."""
    config, checkpoint, runner = cps
    logits = {}
    for name, options in (('student', {}), ('student2', dict(network='student2'))):
        expected = getattr(runner.model, name).state_dict()
        for given in (config, config.with_name('supervised.py')):
            found = load_segmentor(str(given), checkpoint, **options)
            assert all(torch.equal(value, expected[key])
                       for key, value in found.state_dict().items() if 'auxiliary' not in key)
        logits[name] = inference_model(found, str(photos / 'a.png')).seg_logits.data
    assert not torch.equal(*logits.values())
    place = photos / 'deep/er'
    assert call(monkeypatch, config, checkpoint, place, '--out', tmp_path / 'out', '--network',
                'student2') == 0
    same(masks(tmp_path / 'out'), expect_of(config, checkpoint, place, 'student2'))
    for options in (['--network', 'teacher'],
                    ['--cfg-options', 'model.semi_test_cfg.predict_on=teacher']):
        assert call(monkeypatch, config, checkpoint, place, '--out', tmp_path / 'no', *options) == 2
        assert "no network 'teacher': choose student or student2" in capsys.readouterr().err


@pytest.mark.parametrize('which', ['teacher', 'student'])
def test_plain_configs_and_checkpoints(seeing, photos, monkeypatch, tmp_path, which):
    """Each with its own and with the other kind."""
    config, work = seeing
    expected = expect_of(config, work / 'iter_6.pth', photos / 'deep/er', which)
    plain, supervised = tmp_path / 'plain.pth', config.parent / 'supervised.py'
    tool(monkeypatch, 'export_segmentor.py', work / 'iter_6.pth', plain, '--from', which)
    for number, args in enumerate((
            [supervised, work / 'iter_6.pth', '--network', which],
            [supervised, plain], [config, plain])):
        options = ['--out', tmp_path / str(number)]
        assert call(monkeypatch, *options, *args[:2], photos / 'deep/er', *args[2:]) == 0
        same(masks(tmp_path / str(number)), expected)
    with pytest.raises(ValueError, match=f'holds one network, not a {which}'):
        load_segmentor(str(config), plain, network=which)


def expect_of(config, path, photos, which) -> dict:
    model = init_model(str(config), str(path), device='cpu',
                       cfg_options={'model.semi_test_cfg.predict_on': which})
    return by_mmseg(model, photos)


def test_tiles_equal_slide_mode(seeing, photos, monkeypatch, tmp_path):
    config, work = seeing
    slide = init_model(str(config), str(work / 'iter_6.pth'), device='cpu')
    slide.teacher.test_cfg.update(mode='slide', crop_size=(32, 40), stride=(20, 28))
    call(monkeypatch, seeing[1], photos, '--out', tmp_path / 'out', '--tile', 32, 40,
         '--overlap', 12)
    same(masks(tmp_path / 'out'), by_mmseg(slide, photos))


@pytest.mark.parametrize('scales', [(1.0, 1.5), (0.75, 1.0, 1.25)])
def test_tta(seeing, photos, monkeypatch, tmp_path, stock, scales):
    """The config's views (it has two scales) or our own: averaged by hand."""
    config, work = seeing
    options = ['--cfg-options', 'tta_pipeline=None'] if len(scales) > 2 else []
    call(monkeypatch, config, work / 'iter_6.pth', photos / 'a.png', photos / 'b.png', '--tta',
         '--batch', 2, '--out', tmp_path / 'out', *options)
    found, pipeline = masks(tmp_path / 'out'), stock.cfg.test_pipeline
    for name in ('a', 'b'):
        total = 0
        for scale in scales:
            for flip in (0.0, 1.0):
                stock.cfg.test_pipeline = [
                    dict(type='LoadImageFromFile'),
                    dict(type='Resize', scale_factor=scale, keep_ratio=True),
                    dict(type='RandomFlip', prob=flip), dict(type='PackSegInputs')]
                view = inference_model(stock, str(photos / f'{name}.png'))
                total = total + view.seg_logits.data.softmax(dim=0)
        assert np.array_equal(found[name], total.argmax(dim=0).numpy())
    stock.cfg.test_pipeline = pipeline


def test_broken_images_are_named_and_left_out(seeing, photos, monkeypatch, tmp_path, capsys):
    folder = tmp_path / 'photos'
    shutil.copytree(photos, folder)
    (folder / 'a.png').write_bytes((photos / 'a.png').read_bytes()[:-60])
    (folder / 'empty.jpg').touch()
    (folder / 'text.tif').write_text('no image')
    Image.fromarray(np.ones((9, 9), np.float32)).save(folder / 'float.tiff')
    (folder / 'loose.png').symlink_to('nowhere.png')
    assert call(monkeypatch, seeing[1], folder, '--out', tmp_path / 'out', '--batch', 4) == 1
    said = capsys.readouterr()
    assert '7 images predicted, 5 could not be read' in said.out
    for name, why in (('a.png', 'truncated'), ('empty.jpg', 'empty'),
                      ('text.tif', '8 bits'), ('float.tiff', '8 bits'),
                      ('loose.png', 'broken link')):
        line = next(line for line in said.err.splitlines() if name in line)
        assert why in line and 'is left out' in line
    assert masks(tmp_path / 'out').keys() == {
        'b', 'turned', 'deep/c', 'deep/grey', 'deep/palette', 'deep/16', 'deep/er/rgba'}


def test_existing_results(seeing, photos, monkeypatch, tmp_path, capsys):
    out = tmp_path / 'out'
    (out / 'index').mkdir(parents=True)
    (out / 'overlay').mkdir()
    for kind in ('index', 'overlay'):
        (out / kind / 'a.png').write_text(kind)
    (out / 'index/b.png').write_text('its overlay is missing')
    images = [photos / 'a.png', photos / 'b.png']
    kinds = ['--save', 'index,overlay', '--out', out]
    call(monkeypatch, seeing[1], *images, *kinds, '--skip-existing')
    assert '1 images predicted, 1 were there already' in capsys.readouterr().out
    assert (out / 'index/a.png').read_text() == 'index'
    assert Image.open(out / 'index/b.png').mode == 'P'
    assert Image.open(out / 'overlay/b.png').mode == 'RGB'
    call(monkeypatch, seeing[1], *images, *kinds)
    assert Image.open(out / 'index/a.png').mode == 'P'


def test_a_damaged_newest_checkpoint_gives_way(seeing, photos, monkeypatch, tmp_path, capsys):
    work = tmp_path / 'work'
    work.mkdir()
    for name in ('esl.py', 'iter_3.pth'):
        shutil.copy(seeing[1] / name, work / name)
    (work / 'iter_6.pth').write_bytes((seeing[1] / 'iter_6.pth').read_bytes()[:5000])
    assert call(monkeypatch, work, photos / 'a.png', '--out', tmp_path / 'out') == 0
    assert 'taking' in capsys.readouterr().err
    older = init_model(str(seeing[0]), str(work / 'iter_3.pth'), device='cpu')
    expected = inference_model(older, str(photos / 'a.png')).pred_sem_seg.data[0].numpy()
    assert np.array_equal(masks(tmp_path / 'out')['a'], expected)


def test_what_does_not_fit_is_refused(seeing, photos, monkeypatch, tmp_path, capsys):
    config, work = seeing
    for options, text in (
            (['model.segmentor.decode_head.channels=8'], 'does not fit the config'),
            (['model.segmentor.backbone.depth=34'], 'tensors differ: backbone')):
        assert call(monkeypatch, config, work / 'iter_6.pth', photos, '--out', tmp_path / 'out',
                    '--cfg-options', *options) == 2
        assert text in capsys.readouterr().err
    # a deeper checkpoint would fill a shallower network, and mmseg would only warn
    deep = Config.fromfile(str(config)).model.segmentor
    deep.backbone.depth = 34
    torch.save(dict(state_dict=MODELS.build(deep).state_dict()), tmp_path / 'deep.pth')
    assert call(monkeypatch, config.parent / 'supervised.py', tmp_path / 'deep.pth', photos,
                '--out', tmp_path / 'out') == 2
    assert 'should be absent' in capsys.readouterr().err


@pytest.mark.parametrize('args, text', [
    (['CONFIG', 'photos'], 'no checkpoint (.pth) follows'),
    (['WORK'], 'no images'),
    (['WORK', 'photos', '--save', 'index,colour'], "unknown 'colour'"),
    (['WORK', 'photos', '--tile', 64, 64, '--overlap', 64], 'below both sides'),
    (['WORK', 'photos', '--overlap', 64], '--overlap needs --tile'),
    (['WORK', 'photos', '--tile', 0, 64], 'no number above 0'),
    (['WORK', 'photos', '--opacity', 0], '--opacity must be'),
    (['DATA', 'photos'], 'should hold one config'),
])
def test_mistakes(seeing, photos, monkeypatch, tmp_path, capsys, args, text):
    config, work = seeing
    named = dict(CONFIG=config, WORK=work, DATA=config.parent / 'data', photos=photos)
    code = call(monkeypatch, *(named.get(arg, arg) for arg in args), '--out', tmp_path / 'out')
    assert code == 2 and text in capsys.readouterr().err
    assert not (tmp_path / 'out').exists()


def test_a_network_that_fails_names_the_image(seeing, photos, monkeypatch, tmp_path, capsys):
    code = call(monkeypatch, seeing[1], photos / 'a.png', '--out', tmp_path / 'out',
                '--cfg-options', 'model.segmentor.test_cfg.mode=unknown')
    assert code == 2 and 'fails on' in capsys.readouterr().err
