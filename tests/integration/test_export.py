"""Checkpoints between the wrapper and plain mmsegmentation, in both directions."""
import subprocess
import sys

import pytest
import torch
from commands import run, tool
from conftest import train

# A deployment without mmseg_esl. On mmcv-lite mmseg itself needs a stand-in for mmcv's operators.
PLAIN = """
import importlib.util, sys
from importlib.machinery import ModuleSpec
from types import ModuleType

class Lite:
    wanted = False
    def find_spec(name, path=None, target=None):
        assert name.split('.')[0] != 'mmseg_esl', 'mmseg_esl is asked for'
        return ModuleSpec(name, Lite) if name == 'mmcv._ext' and Lite.wanted else None
    def create_module(spec):
        module = ModuleType(spec.name)
        module.__getattr__ = lambda name: (lambda *args: None)
        return module
    def exec_module(module):
        pass

sys.meta_path.insert(0, Lite)
Lite.wanted = not importlib.util.find_spec('mmcv._ext')
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS

config, out, *checkpoints = sys.argv[1:]
init_default_scope('mmseg')
inputs, found = torch.load(out, weights_only=True), []
for path in checkpoints:
    model = MODELS.build(Config.fromfile(config).model)
    content = torch.load(path, weights_only=True)
    model.load_state_dict(content['state_dict'], strict=True)
    assert list(content['meta']['dataset_meta']['classes']) == ['ground', 'red', 'blue', 'green']
    with torch.no_grad():
        found.append(model.eval()(inputs, mode='tensor'))
assert not [name for name in sys.modules if name.startswith('mmseg_esl')]
torch.save(found, out)
"""


@pytest.mark.parametrize('method, option, names', [
    ('trained', '--from', ('teacher', 'student')), ('cps', '--network', ('student', 'student2'))])
def test_exports_load_where_mmseg_esl_is_not(request, monkeypatch, tmp_path, capsys, method,
                                             option, names):
    """The first is the one that predicts, so it need not be named."""
    config, place, runner = request.getfixturevalue(method)
    checkpoint = place if place.is_file() else place / 'iter_6.pth'
    for name in names:
        options = () if name == names[0] else (option, name)
        tool(monkeypatch, 'export_segmentor.py', checkpoint, tmp_path / f'{name}.pth', *options)
        assert f'wrote the {name} (' in capsys.readouterr().out
    inputs, out = torch.randn(2, 3, 48, 64), tmp_path / 'out.pth'
    torch.save(inputs, out)
    script = tmp_path / 'plain.py'
    script.write_text(PLAIN)
    run(sys.executable, script, config.parent / 'supervised.py', out,
        *(tmp_path / f'{name}.pth' for name in names), folder=tmp_path, PYTHONPATH='')
    model = runner.model.eval()
    with torch.no_grad():
        expected = [getattr(model, name)(inputs, mode='tensor') for name in names]
    for given, wanted in zip(torch.load(out), expected):
        assert torch.equal(given, wanted)
    assert not torch.equal(*expected)  # two different networks were compared


def test_the_subprocess_would_notice_an_import(tmp_path):
    script = tmp_path / 'plain.py'
    script.write_text(PLAIN.split('Lite.wanted =')[0] + 'import mmseg_esl\n')
    done = subprocess.run([sys.executable, script], capture_output=True, text=True)
    assert done.returncode != 0 and 'mmseg_esl is asked for' in done.stderr


def test_a_wrong_name_lists_those_of_the_file(cps, trained, monkeypatch, tmp_path):
    for checkpoint, wrong, there in ((cps[1], 'teacher', 'student or student2'),
                                     (trained[1] / 'iter_6.pth', 'student2', 'student or teacher')):
        said = f"{checkpoint.name}: there is no network '{wrong}': choose {there} "
        with pytest.raises(SystemExit, match=said):
            tool(monkeypatch, 'export_segmentor.py', checkpoint, tmp_path / 'out.pth', '--network',
                 wrong)
    assert not [*tmp_path.iterdir()]


@pytest.fixture
def plain(trained, monkeypatch, tmp_path):
    """A supervised checkpoint in plain keys."""
    path = tmp_path / 'plain.pth'
    tool(monkeypatch, 'export_segmentor.py', trained[1] / 'iter_6.pth', path, '--from', 'student')
    return path


def test_a_plain_checkpoint_initialises_both_networks(trained, plain, tmp_path):
    runner = train(trained[0], tmp_path / 'work', **{
        'load_from': str(plain), 'optim_wrapper.optimizer.lr': 0.0, 'train_cfg.max_iters': 1,
        'model.semi_train_cfg.variant': 'sup', 'train_cfg.val_interval': 10})
    state, model = torch.load(plain)['state_dict'], runner.model.state_dict()
    for key, value in state.items():
        if 'running' in key or 'num_batches' in key:
            continue  # these follow the batches even where nothing is learned
        assert torch.equal(model[f'student.{key}'], value), key
        assert torch.equal(model[f'teacher.{key}'], value), key


def test_another_architecture_is_refused(trained, plain, tmp_path):
    with pytest.raises(ValueError, match='is a checkpoint of another architecture.*Give load_from'):
        train(trained[0], tmp_path / 'work', **{
            'load_from': str(plain), 'model.segmentor.backbone.depth': 34})
