"""A run that release 0.1.0 began, and its checkpoint, go on with this version.

tests/recorded/release_0.1.0/ holds the configs, the checkpoint of the third of six iterations, and
what that release itself made of the rest.
"""
import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from commands import inside, logged, run
from mmengine.config import Config
from mmseg.registry import MODELS
from project import ROOT, write_images

RECORDED = Path(__file__).parents[1] / 'recorded'
RELEASE = RECORDED / 'release_0.1.0'
sys.path.append(str(RECORDED))
import esl_steps  # noqa: E402

WORK = 'work'


@pytest.fixture(scope='module')
def project(tmp_path_factory):
    """Its data and configs anew, and its checkpoint in the work folder."""
    folder = tmp_path_factory.mktemp('release')
    write_images(folder / 'data')
    for name in ('supervised.py', 'esl.py'):
        text = (RELEASE / f'{name}.txt').read_text()
        (folder / name).write_text(text.replace('DATA', str(folder / 'data'))
                                   .replace('ROOT', str(ROOT)))
    (folder / WORK).mkdir()
    shutil.copy(RELEASE / 'iter_3.pth', folder / WORK)
    (folder / WORK / 'last_checkpoint').write_text('iter_3.pth')
    return folder


@pytest.fixture(scope='module')
def resumed(project):
    said = run(sys.executable, ROOT / 'tools/train.py', project / 'esl.py', '--work-dir',
               project / WORK, '--resume')
    return project, said


def test_resumes(resumed):
    """Its iterations 4 to 6, to the bit where the machine is the one that recorded them."""
    project, said = resumed
    old = json.loads((RELEASE / 'iter_6.json').read_text())
    assert 'TeacherEMAHook is now StepHook' in said  # said once, and works
    assert said.count('TeacherEMAHook is now StepHook') == 1
    rows = {row['step']: row for row in logged(project / WORK) if 'loss' in row}
    assert sorted(rows) == [4, 5, 6]
    state = torch.load(project / WORK / 'iter_6.pth', weights_only=True)['state_dict']
    for step, losses in old['losses'].items():
        for name, value in losses.items():
            assert rows[int(step)][name] == pytest.approx(value, rel=1e-4)
    assert esl_steps.sums(state) == pytest.approx(old['sums'], rel=1e-4)
    if old['machine'] == esl_steps.machine():
        assert esl_steps.digest(state) == old['state']


def test_another_run_is_refused(project, tmp_path):
    """The old fingerprint is compared too: the momentum that stood in a hook, the parts' number."""
    for number, option in enumerate(('custom_hooks.0.momentum=0.95',
                                     'model.part_memory.num_parts=3',
                                     'model.semi_train_cfg.mass=0.9')):
        work = tmp_path / str(number)
        work.mkdir()
        shutil.copy(RELEASE / 'iter_3.pth', work)
        with pytest.raises(RuntimeError, match='This is not the run that the checkpoint holds'):
            inside('train.py', project / 'esl.py', '--work-dir', work, '--resume',
                   '--cfg-options', option)


def test_tests(project, tmp_path):
    said = inside('test.py', project / 'esl.py', RELEASE / 'iter_3.pth', '--work-dir', tmp_path)
    assert 'mIoU' in said


@pytest.mark.parametrize('network', ['teacher', 'student'])
def test_exports(project, tmp_path, network):
    out = tmp_path / 'plain.pth'
    inside('export_segmentor.py', RELEASE / 'iter_3.pth', out, '--from', network)
    cfg = Config.fromfile(str(project / 'supervised.py'))
    segmentor = MODELS.build(cfg.model)
    segmentor.load_state_dict(torch.load(out, weights_only=True)['state_dict'], strict=True)
    state = torch.load(RELEASE / 'iter_3.pth', weights_only=True)['state_dict']
    weight = segmentor.decode_head.conv_seg.weight
    assert torch.equal(weight, state[f'{network}.decode_head.conv_seg.weight'])
