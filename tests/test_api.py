"""The package from Python: what it does equals what the commands do."""
import subprocess
import sys

import numpy as np
import pytest
import tiny
from mmengine.config import Config
from PIL import Image

import mmseg_esl

USER = """
train_dataloader = dict(batch_size=2, num_workers=0, dataset=dict(
    type='BaseSegDataset', data_root='data', img_suffix='.png',
    data_prefix=dict(img_path='img', seg_map_path='ann'), pipeline=[
        dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'),
        dict(type='RandomFlip', prob=0.5), dict(type='PackSegInputs')]))
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1))
train_cfg = dict(type='IterBasedTrainLoop', max_iters=100, val_interval=10)
"""
SAYS = """
import sys, mmseg_esl
loaded = [name for name in ('torch', 'mmengine', 'mmseg') if name in sys.modules]
assert not loaded, loaded
assert not hasattr(mmseg_esl, 'predict_everything')
"""


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """A work folder, and an image that is no training image."""
    folder = tmp_path_factory.mktemp('api')
    tiny.write_data(folder / 'data')
    with tiny.quiet():
        runner = tiny.run(folder / 'work', folder / 'data', [tiny.EMA, tiny.PARTS], max_iters=2)
    image = np.random.default_rng(0).integers(0, 255, (40, 56, 3), dtype=np.uint8)
    Image.fromarray(image).save(folder / 'photo.png')
    cfg = tiny.segmentor()
    text = (f'default_scope = "mmseg"\nmodel = {cfg!r}\n'
            "test_dataloader = dict(dataset=dict(type='BaseSegDataset', pipeline=["
            "dict(type='LoadImageFromFile'), dict(type='PackSegInputs')]))\n")
    (folder / 'plain.py').write_text(text)
    checkpoint = folder / 'trained.pth'
    runner.save_checkpoint(str(folder), checkpoint.name)
    return folder, runner, checkpoint, image


def test_importing_imports_nothing():
    done = subprocess.run([sys.executable, '-c', SAYS], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_damaged_image_is_refused_as_the_command_does(trained):
    """Decoders fill half a JPEG with grey, and the mask would be of that."""
    folder, _, checkpoint, image = trained
    model = mmseg_esl.load(folder / 'plain.py', checkpoint, network='teacher')
    Image.fromarray(image).save(folder / 'half.jpg')
    data = (folder / 'half.jpg').read_bytes()
    for content, said in ((data[:len(data) // 2], 'truncated'), (b'', 'empty')):
        (folder / 'half.jpg').write_bytes(content)
        with pytest.raises(ValueError, match=f'half.jpg cannot be used: it is {said}'):
            model.predict(folder / 'half.jpg')
    with pytest.raises(TypeError, match=r'\(0, 4, 3\)'):
        model.predict(image[:0, :4])


def test_predict_is_the_networks_own_argmax(trained, capfd):
    folder, runner, checkpoint, image = trained
    capfd.readouterr()
    model = mmseg_esl.load(folder / 'plain.py', checkpoint, network='teacher')
    assert 'checkpoint' not in ''.join(capfd.readouterr())
    mask = model.predict(folder / 'photo.png')
    assert mask.shape == (40, 56) and mask.dtype == np.int32
    net = runner.model.teacher.eval()
    import torch
    ready = net.data_preprocessor(dict(
        inputs=[torch.from_numpy(image[..., ::-1].transpose(2, 0, 1).copy())]), False)['inputs']
    with torch.no_grad():
        logits = net.decode_head(net.backbone(ready))
        want = torch.nn.functional.interpolate(logits, (40, 56), mode='bilinear').argmax(1)[0]
    assert (mask == want.numpy()).mean() > 0.999
    assert np.array_equal(model.predict(image), mask)
    assert len(model.classes) == 3 and len(model.palette) == 3


def test_what_cannot_be_loaded_or_read_is_named(trained, tmp_path):
    folder, _, checkpoint, image = trained
    with pytest.raises(ValueError, match='is no work folder: name a checkpoint too'):
        mmseg_esl.load(folder / 'plain.py')
    with pytest.raises(ValueError, match='--network'):
        mmseg_esl.load(folder / 'plain.py', checkpoint, network='nobody')
    model = mmseg_esl.load(folder / 'plain.py', checkpoint)
    with pytest.raises(FileNotFoundError, match='nothing.jpg'):
        model.predict(tmp_path / 'nothing.jpg')
    with pytest.raises(TypeError, match='float64'):
        model.predict(image.astype(float))


def test_convert_writes_what_the_command_writes(tmp_path, monkeypatch):
    user = (f"default_scope = 'mmseg'\nmodel = {tiny.segmentor()!r}\n" + USER)
    monkeypatch.chdir(tmp_path)
    tiny.write_data(tmp_path / 'data')
    (tmp_path / 'more').mkdir()
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(tmp_path / 'more/a.png')
    (tmp_path / 'base.py').write_text(user)
    import mmseg_esl.conversion  # once imported, it must not hide the function
    made = mmseg_esl.convert('base.py', unlabeled='more', out='mine.py', method='fixmatch')
    assert Config.fromfile('mine.py').model.type == 'FixMatch' and made.done
    with pytest.raises(FileExistsError, match='mine.py is there already'):
        mmseg_esl.convert('base.py', unlabeled='more', out='mine.py')
    with pytest.raises(mmseg_esl.conversion.Refused, match='no such folder'):
        mmseg_esl.convert('base.py', unlabeled='none', out='other.py')
