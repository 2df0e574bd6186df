"""What comes from a stranger is data: nothing in it is executed (SECURITY.md)."""
import io
import os
import pickle
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from line import make_runner
from mmengine.config import Config
from mmengine.logging import HistoryBuffer
from mmengine.runner import checkpoint
from mmengine.runner.checkpoint import CheckpointLoader
from mmseg.apis import MMSegInferencer

from mmseg_esl.predict import config_in
from mmseg_esl.report import make_page
from mmseg_esl.results import read_run
from mmseg_esl.storage import safe_loading, stand_ins
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


# ------------------------------------------------------------------------------------ checkpoints


class Reduced:
    """Pickles as a call, and a state for what comes of it."""

    def __init__(self, function, args=(), state=None):
        self.said = (function, args) if state is None else (function, args, state)

    def __reduce__(self):
        return self.said


class WithState(pickle._Pickler):
    """Writes a state onto a function, which no object's own reduce can ask for."""

    def save(self, obj, save_persistent_id=True):
        if isinstance(obj, tuple) and obj and obj[0] == 'state of':
            super().save(obj[1])
            super().save(obj[2])
            self.write(pickle.BUILD)
        else:
            super().save(obj, save_persistent_id)


@pytest.fixture(params=['torch', 'own'])
def loading(request, monkeypatch):
    """Both ways of restricting: torch's, and ours for torch before 2.6."""
    if request.param == 'own':
        monkeypatch.setattr(safe_loading, 'has_allow_list', lambda: False)
    elif not safe_loading.has_allow_list():
        pytest.skip('torch < 2.6 has no allow-list')


OBJECTS = np.dtype('O')
DANGEROUS = {
    # the buffers are null pointers, which numpy takes for None
    'array over raw pointers': Reduced(np.ndarray, ((1, ), OBJECTS, bytes(8))),
    'array called': Reduced(np.ndarray, ((2, ), np.dtype('f8'), bytes(8), 0, (8, ))),
    'object array': np.array([None], dtype=object),
    'record of objects': np.zeros(1, dtype=[('a', 'O')]),
    'object scalar': Reduced(np._core.multiarray.scalar if hasattr(np, '_core') else
                             np.core.multiarray.scalar, (OBJECTS, bytes(8))),
    'more than there is': Reduced(np._core.multiarray._reconstruct if hasattr(np, '_core') else
                                  np.core.multiarray._reconstruct, (np.ndarray, (0, ), b'b'),
                                  (1, (1000, ), np.dtype('f8'), False, bytes(8))),
    'flags of a kind': Reduced(np.dtype, ('f8', False, True),
                               (3, '<', None, ('a', ), dict(a=(OBJECTS, 0)), 8, 8, 63)),
    'histories of something else': Reduced(HistoryBuffer, ([1], [1])),
}


@pytest.mark.parametrize('name', DANGEROUS)
def test_numpy_constructors_are_never_called(tmp_path, loading, name):
    path = tmp_path / 'evil.pth'
    torch.save(dict(state_dict={}, meta=DANGEROUS[name]), path)
    with pytest.raises(pickle.UnpicklingError, match='evil.pth is refused'):
        safe_loading.load(path)


def test_numbers_of_every_plain_kind_come_back(tmp_path, loading):
    wanted = [np.arange(6).reshape(2, 3).astype(kind) for kind in '?bhilqBHILQefdFD']
    wanted += [np.asfortranarray(wanted[3]), np.array(['a', 'bcd']), np.zeros((0, 3), 'f4'),
               np.array([b'x', b'yz']), np.arange(3, dtype='>i4'), np.array(2.5)]
    wanted += [np.float64(1.5), np.int32(3), np.bool_(True), np.str_('as')]
    history = HistoryBuffer([1.0, 2.0], [1, 3], 5)
    torch.save(dict(many=wanted, history=history, more=(wanted[0], [wanted[0]])),
               tmp_path / 'a.pth')
    found = safe_loading.load(tmp_path / 'a.pth')
    for one, other in zip(wanted, found['many']):
        assert type(one) is type(other) and one.dtype == other.dtype
        assert one.shape == other.shape and np.all(one == other)
    assert (found['more'][1][0] == wanted[0]).all()
    assert type(found['history']) is HistoryBuffer and found['history'].max_length == 5
    for one, other in zip(history.data, found['history'].data):
        assert (one == other).all()


def test_own_checkpoints_load_with_no_allow_list_at_all(tmp_path, monkeypatch):
    make_runner(tmp_path, 2, checkpoint=dict(
        type='mmseg.SemiCheckpointHook', interval=2, by_epoch=False)).train()
    monkeypatch.setattr(safe_loading, 'named', None)  # would fail if it were asked
    assert safe_loading.load(tmp_path / 'iter_2.pth')['meta']['iter'] == 2


@pytest.mark.parametrize('target', [torch._utils._rebuild_tensor_v2, OrderedDict, torch.Tensor])
def test_states_of_functions_and_classes_are_refused(target):
    """As torch before 2.6 reads them: pickle would set attributes of what is only named."""
    from mmseg_esl.storage.old_torch import restricted_pickle
    for state in (dict(marked=True), ({}, dict(marked=True))):
        out = io.BytesIO()
        WithState(out, 2).dump([('state of', target, state)])
        with pytest.raises(pickle.UnpicklingError, match='state of'):
            restricted_pickle().load(io.BytesIO(out.getvalue()))
    assert not hasattr(target, 'marked')


@pytest.mark.parametrize('address', ['s3://bucket/evil.pth', 'petrel://bucket/evil.pth',
                                     'pavi://evil', 'open-mmlab://mine'])
def test_remote_schemes_are_loaded_safely(tmp_path, monkeypatch, marker, address):
    """mmengine's loaders of these call torch.load, which before 2.6 executes what a file names."""
    path = tmp_path / 'evil.pth'
    torch.save(dict(meta=Reduced(os.system, (f'touch {marker}', ))), path)

    class Store:
        name = 'evil.pth'

        def get(self, name):
            return path.read_bytes() if '://' in name else self

        def download(self, to):
            Path(to).write_bytes(path.read_bytes())

    monkeypatch.setattr(checkpoint, 'get_file_backend', lambda *args, **kwargs: Store())
    monkeypatch.setattr(checkpoint, 'get_external_models', lambda: dict(mine=str(path)))
    pavi = type(sys)('pavi')
    pavi.modelcloud = Store()
    monkeypatch.setitem(sys.modules, 'pavi', pavi)
    monkeypatch.setattr(torch, 'load', lambda file, **kwargs: pickle.loads(b'executed'))
    seen = []
    monkeypatch.setattr(safe_loading, '_load', lambda file, where: seen.append(file))
    CheckpointLoader.load_checkpoint(address, map_location='cpu', logger=None)
    assert len(seen) == 1


def test_a_tuple_named_often_is_walked_once():
    value = (1, )
    for _ in range(60):
        value = (value, value)
    assert stand_ins.real([value])[0][0][0] is not None  # or it would take for ever
