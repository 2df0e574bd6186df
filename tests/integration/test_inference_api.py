"""mmseg's own ways of using a trained model, on the wrapper's config and checkpoint."""
import math

import numpy as np
import pytest
import torch
from commands import logged, metrics_of, tool
from mmseg.apis import MMSegInferencer, inference_model, init_model
from PIL import Image


@pytest.fixture(scope='module')
def image(trained):
    return str(trained[0].parent / 'data/images/val/val0.png')


def teacher_logits(trained, image):
    """What the trained teacher says, without any of mmseg's inference code."""
    model = trained[2].model.eval()
    array = np.asarray(Image.open(image)).astype(np.float32)  # RGB already
    inputs = torch.from_numpy((array - 127.5) / 127.5).permute(2, 0, 1)[None]
    metas = [dict(ori_shape=array.shape[:2], img_shape=array.shape[:2])]
    with torch.no_grad():
        return model.teacher.encode_decode(inputs, metas)[0]


def test_init_model_and_inference_model(trained, image):
    config, work, _ = trained
    model = init_model(str(config), str(work / 'iter_6.pth'), device='cpu')
    assert model.dataset_meta['classes'] == ('ground', 'red', 'blue', 'green')
    result = inference_model(model, image)
    expected = teacher_logits(trained, image)
    torch.testing.assert_close(result.seg_logits.data, expected)
    assert torch.equal(result.pred_sem_seg.data, expected.argmax(dim=0, keepdim=True))


def test_inferencer(trained, image):
    config, work, _ = trained
    inferencer = MMSegInferencer(str(config), str(work / 'iter_6.pth'), device='cpu')
    found = inferencer(image, show=False)['predictions']
    assert np.array_equal(found, teacher_logits(trained, image).argmax(dim=0).numpy())


def test_predictions_of_the_student(trained, image):
    """One key chooses the network."""
    config, work, runner = trained
    model = init_model(str(config), str(work / 'iter_6.pth'), device='cpu',
                       cfg_options={'model.semi_test_cfg.predict_on': 'student'})
    given = inference_model(model, image).seg_logits.data
    assert torch.equal(model.student.decode_head.conv_seg.weight,
                       runner.model.student.decode_head.conv_seg.weight)
    assert not torch.allclose(given, teacher_logits(trained, image))


def test_test_py_equals_validation(trained, monkeypatch, tmp_path, recwarn):
    config, work, _ = trained
    tool(monkeypatch, 'test.py', config, work / 'iter_6.pth', '--work-dir', tmp_path / 'work',
         '--show-dir', tmp_path / 'painted')
    # of losses, which count in training alone
    assert [str(each.message) for each in recwarn if '/mmseg/' in each.filename] == []
    painted = (tmp_path / 'painted').rglob('*.png')
    assert [path.name[:9] for path in sorted(painted)] == ['test_val0', 'test_val1', 'test_val2']
    last = [entry for entry in logged(work) if 'teacher/mIoU' in entry][-1]
    metrics = metrics_of(tmp_path / 'work')
    for key in ('aAcc', 'mIoU', 'mAcc'):
        assert metrics[key] == pytest.approx(last[f'teacher/{key}'], abs=1e-4)


NO_VALIDATION = ['--cfg-options', 'val_dataloader=None', 'val_evaluator=None']


@pytest.mark.parametrize('name, options, network', [
    ('esl.py', ['--network', 'student'], 'student'),
    ('supervised.py', ['--network', 'student', *NO_VALIDATION], 'student'),
    ('supervised.py', NO_VALIDATION, 'teacher')])
def test_test_py_of_each_network(seeing, monkeypatch, tmp_path, name, options, network):
    """Also with the plain segmentor's config; against mmseg's inference with the method's."""
    config, work = seeing
    tool(monkeypatch, 'test.py', config.with_name(name), work / 'iter_6.pth', '--work-dir',
         tmp_path / 'work', '--out', tmp_path / 'maps', *options)
    equal = {}
    for which in ('student', 'teacher'):
        model = init_model(str(config), str(work / 'iter_6.pth'), device='cpu',
                           cfg_options={'model.semi_test_cfg.predict_on': which})
        images = config.parent / 'data/images/val'
        equal[which] = np.mean([
            inference_model(model, str(images / path.name)).pred_sem_seg.data[0].numpy()
            == np.asarray(Image.open(path)) for path in (tmp_path / 'maps').iterdir()])
    other = 'teacher' if network == 'student' else 'student'
    assert equal[network] == 1 and equal[other] < 0.6


def test_test_py_of_a_network_with_augmentation(seeing, monkeypatch, tmp_path):
    config, work = seeing
    found = []
    for number, (name, *options) in enumerate((
            ('esl.py', '--network', 'student'), ('esl.py', ),
            ('supervised.py', '--network', 'student', *NO_VALIDATION))):
        tool(monkeypatch, 'test.py', config.with_name(name), work / 'iter_6.pth', '--tta', '--out',
             tmp_path / str(number), '--work-dir', tmp_path / 'work', *options)
        found.append([np.asarray(Image.open(tmp_path / str(number) / f'val{i}.png'))
                      for i in range(3)])
    assert np.array_equal(found[0], found[2]) and not np.array_equal(found[0], found[1])


def test_test_py_refuses_other_networks(trained, monkeypatch, tmp_path):
    config, work, _ = trained
    plain = tmp_path / 'plain.pth'
    tool(monkeypatch, 'export_segmentor.py', work / 'iter_6.pth', plain)
    for name, checkpoint, network, said in (
            ('esl.py', work / 'iter_6.pth', 'student2', "ESL has no network 'student2': choose "
             'student or teacher'),
            ('supervised.py', work / 'iter_6.pth', 'student2', 'choose student or teacher'),
            ('cps.py', work / 'iter_6.pth', 'student2', 'choose student or teacher'),
            ('esl.py', plain, 'student', 'holds one network: leave --network out'),
            ('supervised.py', plain, 'student', 'holds one network: leave --network out')):
        with pytest.raises(SystemExit, match=said):
            tool(monkeypatch, 'test.py', config.with_name(name), checkpoint, '--work-dir', tmp_path,
                 '--network', network, *(NO_VALIDATION if name == 'supervised.py' else ()))


def test_test_time_augmentation_and_out(trained, monkeypatch, tmp_path):
    """Also with the hook's name of release 0.1.0, which looks for the method's settings."""
    config, work, _ = trained
    tool(monkeypatch, 'test.py', config, work / 'iter_6.pth', '--work-dir', tmp_path / 'work',
         '--tta', '--out', tmp_path / 'maps', '--cfg-options',
         'default_hooks.step.type=TeacherEMAHook')
    assert math.isfinite(metrics_of(tmp_path / 'work')['mIoU'])
    maps = sorted((tmp_path / 'maps').glob('*.png'))
    assert [path.name for path in maps] == ['val0.png', 'val1.png', 'val2.png']
    assert np.asarray(Image.open(maps[0])).shape == (48, 64)
