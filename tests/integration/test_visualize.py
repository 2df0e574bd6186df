"""tools/visualize.py from a trained project to PNGs."""
import os
import re

import numpy as np
import pytest
import tiny
import torch
from commands import tool
from mmseg.structures import SegDataSample
from PIL import Image

from mmseg_esl.looks import album, scenes
from mmseg_esl.looks.palette import WRONG

KINDS = ('dominant', 'entropy', 'parts', 'pairs', 'compare')
NAMES = ('ground', 'red', 'blue', 'green')


def run(monkeypatch, *args):
    tool(monkeypatch, 'visualize.py', *args)


def written(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(scope='module')
def loaded(trained):
    from mmengine.config import Config
    config, work, _ = trained
    cfg = Config.fromfile(str(config))
    return cfg, scenes.load_trained(cfg, str(work / 'iter_6.pth'))


def test_all_of_the_validation_set(trained, monkeypatch, tmp_path, capsys):
    config, work, _ = trained
    run(monkeypatch, config, work / 'iter_6.pth', '--limit', 2, '--out', tmp_path / 'out')
    wanted = [f'{kind}_val{i}.png' for kind in KINDS for i in (0, 1)]
    wanted += [f'contact_sheet_{kind}.png' for kind in KINDS] + ['embedding_all.png']
    assert written(tmp_path / 'out') == sorted(wanted)
    said = capsys.readouterr().out
    for name in wanted:
        assert str(tmp_path / 'out' / name) in said
        with Image.open(tmp_path / 'out' / name) as picture:
            assert picture.width in (1000, 2000) and picture.height > 150
            assert len(picture.convert('RGB').getcolors(10 ** 6)) > 20
    for kind in KINDS:
        one, two, sheet = (Image.open(tmp_path / 'out' / name) for name in (
            f'{kind}_val0.png', f'{kind}_val1.png', f'contact_sheet_{kind}.png'))
        shown = [np.asarray(each.convert('RGB')) for each in (one, two)]
        below = sheet.width == 1000  # of flat ones; others stand side by side
        assert np.array_equal(np.asarray(sheet), np.concatenate(shown, axis=0 if below else 1))
        assert 0.75 < sheet.width / sheet.height < 3
        assert one.text['Title'] == album.KINDS[kind] and 'val0, by ' in one.text['Description']


def test_pictures_lie_beside_their_checkpoint(trained, monkeypatch, tmp_path):
    """In the folder of the run, where nobody else's are, and where its report looks for them."""
    config, work, _ = trained
    (tmp_path / 'run').mkdir()
    os.link(work / 'iter_6.pth', tmp_path / 'run/iter_6.pth')
    monkeypatch.chdir(tmp_path)
    run(monkeypatch, config, tmp_path / 'run/iter_6.pth', '--limit', 1, '--what', 'entropy')
    assert written(tmp_path / 'run/pictures') == ['contact_sheet_entropy.png', 'entropy_val0.png']
    assert written(tmp_path) == ['run']
    with pytest.raises(SystemExit, match='s3://a/b.pth lies on no disk: .* with --out'):
        run(monkeypatch, config, 's3://a/b.pth')


def test_what_is_looked_at_is_the_checkpoints_teacher(trained, loaded):
    """Image, probabilities and classes, against the runner's own model and Pillow."""
    _, _, runner = trained
    cfg, found = loaded
    assert found.classes == NAMES and found.networks == ('student', 'teacher')
    scene, = scenes.validation_scenes(cfg, 1)
    data = cfg.val_dataloader.dataset.data_root
    image = np.asarray(Image.open(f'{data}/images/val/val0.png').convert('RGB'))
    assert np.array_equal(scene.image, image)
    assert np.array_equal(scene.truth, np.asarray(Image.open(f'{data}/masks/val/val0.png')))
    seen = scenes.look_at(found, scene)
    model = runner.model.eval()
    inputs = torch.tensor((image.transpose(2, 0, 1)[None] - 127.5) / 127.5, dtype=torch.float32)
    with torch.no_grad():
        logits, other = (network.encode_decode(inputs, [dict(img_shape=(48, 64))])
                         for network in (model.teacher, model.student))
    torch.testing.assert_close(seen.probs, logits.softmax(dim=1))
    assert np.array_equal(scenes.predict(found, scene), logits[0].argmax(dim=0).numpy())
    assert np.array_equal(scenes.predict(found, scene, 'student'), other[0].argmax(dim=0).numpy())


def test_given_files_and_masks(trained, monkeypatch, tmp_path, capsys, recwarn):
    config, work, _ = trained
    data = config.parent / 'data'
    run(monkeypatch, config, work / 'iter_6.pth', '--what', 'compare', 'dominant', '--images',
        data / 'images/unlabeled', data / 'images/val/val2.png', '--masks', data / 'masks/val',
        '--limit', 1, '--out', tmp_path, '--pixel', 3, 5)
    assert [n for n in written(tmp_path) if 'contact' not in n] == [
        f'{kind}_{stem}.png' for kind in ('compare', 'dominant')
        for stem in ('unlabeled0', 'val2')]
    assert 'the first 1 of 6 images' in capsys.readouterr().out
    assert [str(each.message) for each in recwarn if '/mmseg/' in each.filename] == []
    shapes = [Image.open(tmp_path / f'compare_{stem}.png').size for stem in ('unlabeled0', 'val2')]
    assert shapes[0] != shapes[1]  # truth and differences are shown for the second one only


def test_masks_are_read_as_the_validation_set_reads_them(loaded, tmp_path):
    cfg, _ = loaded
    cfg = cfg.copy()
    cfg.val_dataloader.dataset.reduce_zero_label = True
    data = cfg.val_dataloader.dataset.data_root
    scene, = scenes.file_scenes(cfg, [f'{data}/images/val/val0.png'],
                                [f'{data}/masks/val/val0.png'])
    mask = np.asarray(Image.open(f'{data}/masks/val/val0.png')).astype(int)
    assert np.array_equal(scene.truth, np.where(mask % 255 == 0, 255, mask - 1))


def test_padding_of_the_preprocessor_is_not_shown(loaded):
    cfg, found = loaded
    scene, = scenes.validation_scenes(cfg, 1)
    pre = found.model.data_preprocessor
    whole = scenes.look_at(found, scene)
    pre.test_cfg = dict(size_divisor=80)
    try:
        seen, predicted = scenes.look_at(found, scene), scenes.predict(found, scene)
    finally:
        pre.test_cfg = None
    for name in ('probs', 'size', 'parts', 'embedding', 'encoder', 'target', 'classes'):
        assert getattr(seen, name).shape == getattr(whole, name).shape, name
    assert predicted.shape == scene.truth.shape


def test_another_checkpoint(trained, loaded, monkeypatch, tmp_path):
    """An exported segmentor of another config, in the dataset's own colours."""
    config, work, runner = trained
    plain = tmp_path / 'student.pth'
    tool(monkeypatch, 'export_segmentor.py', work / 'iter_6.pth', plain, '--from', 'student')
    args = ('--what', 'compare', '--limit', 1, '--out', tmp_path / 'out', '--palette', 'dataset')
    run(monkeypatch, config, work / 'iter_6.pth', '--with', config.parent / 'supervised.py', plain,
        *args)
    picture = np.asarray(Image.open(tmp_path / 'out/compare_val0.png').convert('RGB'))
    there = {tuple(colour) for colour in picture.reshape(-1, 3).tolist()}
    assert {(90, 90, 90), tuple(WRONG[1].tolist())} <= there
    cfg, first = loaded
    from mmengine.config import Config
    other = scenes.load_trained(Config.fromfile(str(config.parent / 'supervised.py')), str(plain))
    scene, = scenes.validation_scenes(cfg, 1)
    assert other.networks == () and other.model.labeler == 'student'
    assert np.array_equal(scenes.predict(other, scene), scenes.predict(first, scene, 'student'))


def test_a_plain_checkpoint_says_what_it_cannot_show(trained, monkeypatch, tmp_path, capsys):
    config, work, _ = trained
    plain = tmp_path / 'teacher.pth'
    tool(monkeypatch, 'export_segmentor.py', work / 'iter_6.pth', plain)
    for name, reason in (('supervised.py', r'this model \(EncoderDecoder\) has no parts: it has no '
                          'part_memory'),
                         ('esl.py', 'the checkpoint holds no parts of this config')):
        run(monkeypatch, config.parent / name, plain, '--limit', 1, '--out', tmp_path / name)
        said = capsys.readouterr().out
        for kind in ('parts', 'pairs', 'embedding'):
            assert re.search(f'no {kind} picture: {reason}', said)
        assert 'no compare picture: the checkpoint holds one network' in said
        assert [n for n in written(tmp_path / name) if 'contact' not in n] == [
            'dominant_val0.png', 'entropy_val0.png']
        with pytest.raises(SystemExit, match=f'visualize.py: no parts picture: .*{reason}'):
            run(monkeypatch, config.parent / name, plain, '--what', 'parts', '--out', tmp_path)


def test_other_methods(cps, monkeypatch, tmp_path, capsys):
    """Its two networks are compared, also with the plain segmentor's config."""
    from mmengine.config import Config
    config, checkpoint, runner = cps
    for name, title in (('cps.py', 'CPS'), ('supervised.py', 'EncoderDecoder')):
        run(monkeypatch, config.with_name(name), checkpoint, '--limit', 1, '--out', tmp_path / name)
        said = capsys.readouterr().out
        assert f'no parts picture: this model ({title}) has no parts' in said
        assert [n for n in written(tmp_path / name) if 'contact' not in n] == [
            'compare_val0.png', 'dominant_val0.png', 'entropy_val0.png']
        found = scenes.load_trained(Config.fromfile(str(config.with_name(name))), str(checkpoint))
        assert found.networks == ('student', 'student2')
        for network in found.networks:
            wanted = getattr(runner.model, network).decode_head.conv_seg.weight
            assert torch.equal(found.model.named()[network].decode_head.conv_seg.weight, wanted)
        scene, = scenes.validation_scenes(Config.fromfile(str(config)), 1)
        figure = album.Album(found, [scene], None).figure('compare', scene)
        assert {'student', 'student2'} <= {axis.get_title() for axis in figure.axes}
        figure = album.Album(found, [scene], None).figure('dominant', scene,
                                                          scenes.look_at(found, scene))
        assert "student's probability" in figure.axes[3].get_xlabel()


@pytest.mark.parametrize('args, message', [
    (['--what', 'nothing'], '--what nothing: choose of dominant, '),
    (['--pixel', '64', '0'], r'pixel \(64, 0\) lies outside of val0, which is 64 x 48'),
    (['--images', 'nowhere.png'], 'nowhere.png does not exist'),
    (['--images', 'DATA/images/val', '--masks', 'DATA/masks/train'], 'no mask has the stem'),
    (['--images', 'EMPTY'], 'holds no image'),
    (['--cfg-options', 'val_dataloader=None', 'test_dataloader=None'], 'has no val_dataloader'),
    (['--with', 'none.pth'], 'checkpoint none.pth does not exist'),
    (['--cfg-options', 'model.segmentor.backbone.depth=34'], 'of another architecture'),
    (['--cfg-options', 'model.segmentor.decode_head.num_classes=5'], 'does not fit the config'),
])
def test_refusals(trained, monkeypatch, tmp_path, args, message):
    config, work, _ = trained
    (tmp_path / 'empty').mkdir()
    places = dict(DATA=config.parent / 'data', EMPTY=tmp_path / 'empty')
    for name, place in places.items():
        args = [arg.replace(name, str(place)) for arg in args]
    with pytest.raises(SystemExit, match=f'visualize.py: .*{message}'):
        run(monkeypatch, config, work / 'iter_6.pth', '--out', tmp_path / 'out', *args)
    assert not (tmp_path / 'out').exists()


def test_a_folder_is_read_as_training_reads_it(tmp_path):
    """With what lies in folders below, without what a Mac leaves beside each file."""
    for name in ('b/c.png', 'a.jpg', '._a.jpg', 'a.txt'):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert scenes.list_files([tmp_path, tmp_path / 'a.txt']) == [
        tmp_path / 'a.jpg', tmp_path / 'b/c.png', tmp_path / 'a.txt']


def test_compare_of_a_cascade():
    model = tiny.esl(segmentor=tiny.cascade()).eval()
    found = scenes.Trained(model, 'x', tiny.CLASSES, None, ('student', 'teacher'))
    image = np.zeros((32, 32, 3), np.uint8)
    sample = SegDataSample(metainfo=dict(ori_shape=(32, 32), img_shape=(32, 32)))
    scene = scenes.Scene('a', image, dict(
        inputs=[torch.zeros(3, 32, 32, dtype=torch.uint8)], data_samples=[sample]),
        np.zeros((32, 32), int))
    assert album.Album(found, [scene], None).figure('compare', scene)


def test_a_file_without_weights(trained, monkeypatch, tmp_path):
    torch.save(dict(meta={}), tmp_path / 'empty.pth')
    with pytest.raises(SystemExit, match='empty.pth has no state_dict'):
        run(monkeypatch, trained[0], tmp_path / 'empty.pth')


def test_equal_stems_get_numbers(loaded):
    cfg, found = loaded
    scene, = scenes.validation_scenes(cfg, 1)
    assert album.Album(found, [scene] * 3, None)._names() == ['val0', 'val0_2', 'val0_3']
