"""What comes from a stranger is data: nothing in it is executed (SECURITY.md)."""
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from line import make_runner
from mmengine.config import Config
from mmseg.apis import MMSegInferencer

from mmseg_esl.predict import config_in
from mmseg_esl.report import make_page
from mmseg_esl.results import read_run
from mmseg_esl.storage.dumped import parse_config, refuse_paths_to_code

CONFIGS = Path(__file__).parents[1] / 'configs'


@pytest.fixture
def marker(tmp_path):
    return tmp_path / 'executed'


def payloads(marker) -> dict:
    """Configs that would make a file, if anything executed them."""
    touch = f'__import__("pathlib").Path("{marker}").touch()'
    return {
        'a statement': f'{touch}\nmodel = dict()',
        'a value': f'model = dict(type={touch})',
        'a default': f'model = [lambda a={touch}: 0]',
        'a comprehension': f'model = [{touch} for _ in "a"]',
        'text': f"model = f'''{{{touch}}}'''",
        'another dict': f'dict = lambda **k: {touch}\nmodel = dict(a=1)',
        'an environment variable': 'model = "{{$UNSET:" + str(' + touch + ') + "}}"',
        'a base': '_base_ = ["evil.py"]\nmodel = dict()',
        'a decorator': f'@{touch}\nclass A: pass',
        'unpacking': f'model = {{**{touch}}}',
    }


def run_folder(folder, config: str) -> Path:
    """A run's folder with a config that nobody wrote by ``Config.dump``."""
    start = folder / '20260101_000000/vis_data'
    start.mkdir(parents=True)
    (start / 'scalars.json').write_text('{"loss": 1.0, "iter": 1, "step": 1}\n')
    (start / 'config.py').write_text(config)
    (folder / 'config.py').write_text(config)
    return folder


@pytest.mark.parametrize('name', payloads(Path()))
def test_a_config_in_a_folder_is_not_executed(tmp_path, marker, name):
    (tmp_path / 'evil.py').write_text(payloads(marker)['a statement'])
    folder = run_folder(tmp_path / 'run', payloads(marker)[name])
    for read in (read_run, lambda path: read_run(path, check=False), make_page, config_in):
        with pytest.raises(ValueError, match=r'config\.py, line \d+: no plain value'):
            read(folder)
    assert not marker.exists()


@pytest.mark.parametrize('text', ['model = ' + '[' * 3000, 'model = ' + '-' * 100000 + '1', 'a =\0',
                                  'model = {[]: 1}', 'model', '%', '(a, b) = 1, 2'])
def test_what_is_no_config_is_named(text):
    with pytest.raises(ValueError, match='of mine'):
        parse_config(text, 'of mine')


@pytest.mark.parametrize('path', sorted(CONFIGS.glob('esl/*/*.py'))[::7], ids=lambda p: p.stem)
def test_dumps_are_read_as_they_were(path):
    cfg = Config.fromfile(str(path))
    cfg.more = {'a.b': (1, -2.5), 'c': [{}, None, True], 'of text': "it's {{ x }}\n", 1: ()}
    cfg.limits = [float('inf'), -float('inf')]
    assert parse_config(cfg.pretty_text, path) == cfg.to_dict()


def test_resuming_does_not_execute_the_config_in_a_checkpoint(tmp_path, marker):
    make_runner(tmp_path, 2).train()
    content = torch.load(tmp_path / 'iter_2.pth', weights_only=False)
    for text in payloads(marker).values():
        content['meta']['config'] = text
        torch.save(content, tmp_path / 'evil.pth')
        runner = make_runner(tmp_path / 'next', 4, resume=True, load_from=f'{tmp_path}/evil.pth')
        with pytest.raises(ValueError, match='the config in a checkpoint, line'):
            runner.train()
    assert not marker.exists()
    content['meta']['config'] = 'gpu_ids = [0, 1, 2]'
    torch.save(content, tmp_path / 'other.pth')
    runner = make_runner(tmp_path / 'next', 4, resume=True, load_from=f'{tmp_path}/other.pth')
    with pytest.raises(RuntimeError, match='Number of GPUs'):  # mmengine still reads it
        runner.train()


def inferencer(folder, config: str):
    path = folder / 'weights.pth'
    torch.save(dict(state_dict={}, meta=dict(cfg=config)), path)
    return MMSegInferencer(None, weights=str(path), device='cpu')


@pytest.mark.parametrize('kind', ['subprocess.check_call', 'mmengine.config.config.os.system',
                                  'mmengine.load', 'mmengine.fileio'])
def test_a_type_is_a_name_not_a_path_to_code(tmp_path, marker, kind):
    config = f'model = dict(type={kind!r}, args=["touch", {str(marker)!r}])'
    with pytest.raises(ValueError, match='is no name of a registry'):
        inferencer(tmp_path, config)
    with pytest.raises(ValueError, match='config.py: model.type=.*is no name of a registry'):
        config_in(run_folder(tmp_path / 'run', config))
    assert not marker.exists()
    refuse_paths_to_code(dict(a=[dict(type='mmpretrain.ResNet'), dict(type='mmseg.FCNHead')]), '')


def test_an_inferencer_does_not_execute_the_config_in_a_checkpoint(tmp_path, marker):
    for text in payloads(marker).values():
        with pytest.raises(ValueError, match='the config in a checkpoint, line'):
            inferencer(tmp_path, text)
    assert not marker.exists()


def test_imports_of_a_config_in_a_folder_are_said_not_followed(tmp_path, marker):
    (tmp_path / 'evil.py').write_text(payloads(marker)['a statement'])
    config = 'custom_imports = dict(imports=["evil", "mmseg_esl.register"])\nmodel = dict(x=1)'
    folder, said = run_folder(tmp_path / 'run', config), []
    sys.path.insert(0, str(tmp_path))
    try:
        cfg = config_in(folder, said.append)
    finally:
        sys.path.remove(str(tmp_path))
    assert cfg.model.x == 1 and 'custom_imports' not in cfg and not marker.exists()
    text, = said
    assert 'evil not imported' in text and 'register' not in text


def test_pictures_of_a_report_do_not_execute_the_config(tmp_path, marker):
    folder = run_folder(tmp_path / 'run', payloads(marker)['a value'])
    (folder / 'iter_1.pth').write_bytes(b'no checkpoint')
    tool = Path(__file__).parents[1] / 'tools/visualize.py'
    done = subprocess.run([sys.executable, tool, folder / 'config.py', folder / 'iter_1.pth',
                           '--dumped'], text=True, capture_output=True)
    assert done.returncode == 1 and 'no plain value' in done.stderr and not marker.exists()
