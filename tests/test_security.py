"""What comes from a stranger is data: nothing in it is executed (SECURITY.md)."""
import html
import io
import json
import math
import os
import pickle
import subprocess
import sys
import tarfile
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import predict
import pytest
import torch
from line import make_runner
from mmengine.config import Config
from mmengine.logging import HistoryBuffer
from mmengine.runner import checkpoint
from mmengine.runner.checkpoint import CheckpointLoader
from mmseg.apis import MMSegInferencer

from mmseg_esl.datasets.file_check import path_problem
from mmseg_esl.predict import config_in
from mmseg_esl.report import make_page
from mmseg_esl.results import make_table, read_run, to_markdown
from mmseg_esl.results.table import mean_sd
from mmseg_esl.storage import safe_loading, stand_ins
from mmseg_esl.storage.dumped import parse_config, refuse_paths_to_code
from mmseg_esl.storage.resumable import newest_readable, read_pointer

sys.path.append(str(Path(__file__).parents[1] / 'tools/dataset_converters'))
import archives
from archives import ConversionError, Zip, stream_tar

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
    monkeypatch.setattr(safe_loading, '_load', lambda file, where: seen.append(file) or {})
    CheckpointLoader.load_checkpoint(address, map_location='cpu', logger=None)
    assert len(seen) == 1


def test_a_tuple_named_often_is_walked_once():
    value = (1, )
    for _ in range(60):
        value = (value, value)
    assert stand_ins.real([value])[0][0][0] is not None  # or it would take for ever


# ------------------------------------------------------------------------------ odd files of a run


MALFORMED = dict(
    classes_of_numbers=dict(meta=dict(dataset_meta=dict(classes=[1, [2]]))),
    palette_of_words=dict(meta=dict(dataset_meta=dict(palette='red'))),
    networks_of_lists=dict(meta=dict(networks=[1])),
    roles_of_numbers=dict(meta=dict(networks=dict(roles=dict(a=1), predicts='a'))),
    a_list=[1, 2], nothing=None, a_tensor=torch.ones(2), text='weights',
    states_of_lists=dict(state_dict=[1]), keys_of_numbers=dict(state_dict={1: torch.ones(1)}),
    no_tensors=dict(state_dict=dict(a=1)), no_meta=dict(meta=[1]), text_as_iter=dict(
        meta=dict(iter='7')), hub_of_lists=dict(message_hub=dict(log_scalars=[])))


def whole(folder) -> dict:
    make_runner(folder, 4, checkpoint=dict(
        type='mmseg.SemiCheckpointHook', interval=2, by_epoch=False)).train()
    return torch.load(folder / 'iter_4.pth', weights_only=True)


def test_malformed_checkpoints_are_one_sentence_and_give_way(tmp_path, loading):
    content = whole(tmp_path)
    for name, value in MALFORMED.items():
        if isinstance(value, dict):
            value = {**content, **value}
        torch.save(value, tmp_path / 'iter_4.pth')
        with pytest.raises(safe_loading.Unreadable,
                           match='iter_4.pth is no checkpoint: it') as said:
            safe_loading.load(tmp_path / 'iter_4.pth')
        assert '\n' not in str(said.value), name
        taken = newest_readable(tmp_path, tmp_path, 'iter_{}.pth', lambda text: None)
        assert taken == str(tmp_path / 'iter_2.pth'), name


@pytest.mark.parametrize('seed', range(4))
def test_flipped_bits_of_the_directory_give_way(tmp_path, seed):
    """zlib.error, NotImplementedError, struct.error: whatever the bits ask for."""
    whole(tmp_path)
    path, draw = tmp_path / 'iter_4.pth', np.random.default_rng(seed)
    good = path.read_bytes()
    first = good.index(b'PK\1\2')
    for offset in [first + 8, first + 10, *draw.integers(first, len(good), 40)]:
        data = bytearray(good)
        data[offset] ^= 1 << int(draw.integers(8)) if offset > first + 10 else 8
        path.write_bytes(data)
        try:
            taken = newest_readable(tmp_path, tmp_path, 'iter_{}.pth', lambda text: None)
        except pickle.UnpicklingError:
            pytest.fail('damage is no attack')
        assert taken in (str(path), str(tmp_path / 'iter_2.pth'))


def test_tools_end_in_one_sentence(tmp_path, monkeypatch, capsys):
    import export_segmentor
    import visualize
    from cli_common import checkpoint_errors
    torch.save([1], tmp_path / 'odd.pth')
    (tmp_path / 'config.py').write_text('model = dict(type="EncoderDecoder")')
    for tool, args in ((export_segmentor, ['odd.pth', 'out.pth']), (visualize, [
            'config.py', 'odd.pth']), (predict, ['config.py', 'odd.pth', 'a.png'])):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, 'argv', [tool.__name__, *args])
        Path('a.png').touch()
        with pytest.raises(SystemExit) as ended:
            tool.main()
        said = capsys.readouterr().err + str(ended.value)
        assert 'odd.pth is no checkpoint' in said and ended.value.code not in (0, None)
    with pytest.raises(SystemExit, match='odd.pth is no checkpoint'), checkpoint_errors():
        safe_loading.load_from_local('odd.pth')


def odd_folders() -> dict:
    deep = '[' * 100000
    row = '{"step": 1, "iter": 1, "loss": 1.0}'
    good = {'scalars': row, 'config': 'model = dict(type="A")\ntrain_cfg = dict(max_iters=1)'}
    return {
        'deep scalars': dict(good, scalars=f'{deep}\n{row}'),
        'rows of lists': dict(good, scalars=f'[1]\n{row}'),
        'endless steps': dict(good, scalars='{"step": Infinity, "iter": 1}\n' + row),
        'deep run.json': {**good, 'run.json': deep},
        'a list for run.json': {**good, 'run.json': '[1]'},
        'lists in run.json': {**good, 'run.json': '{"method": [1], "commit": [[]], "seed": {}}'},
        'protocol of numbers': {**good, 'protocol.json': '{"protocol": 3, "labeled": [1]}'},
        'a list for the model': dict(good, config='model = [1]\ntrain_cfg = 3'),
        'text for the train_cfg': dict(good, config='model = dict()\ntrain_cfg = "a"'),
        'deep config': dict(good, config='model = ' + deep),
        'no text': dict(good, config='\xff'),
        'nested audit': {**good, '../audit/iter_1.json': deep},
    }


@pytest.mark.parametrize('name', odd_folders())
def test_odd_folders_are_one_sentence(tmp_path, name):
    files = odd_folders()[name]
    folder = run_folder(tmp_path / 'run', files.pop('config'))
    start = folder / '20260101_000000'
    (start / 'vis_data/scalars.json').write_text(files.pop('scalars') + '\n')
    for place, text in files.items():
        (start / place).parent.mkdir(exist_ok=True)
        (start / place).write_text(text)
    for read in (lambda: read_run(folder), lambda: make_page(folder)):
        try:
            read()
        except ValueError as error:
            assert str(folder) in str(error) and '\n' not in str(error)[:60]


@pytest.mark.parametrize('name', ['config.py', 'vis_data/config.py', 'run.json', 'protocol.json',
                                  '../audit/iter_1.json', '../pictures/a.png'])
def test_pipes_are_not_waited_for(tmp_path, name):
    folder = run_folder(tmp_path / 'run', 'model = dict(type="A")\ntrain_cfg = dict(max_iters=9)')
    path = folder / '20260101_000000' / name
    path.parent.mkdir(exist_ok=True)
    path.unlink() if path.exists() else None
    os.mkfifo(path)
    os.mkfifo(folder / 'last_checkpoint')
    assert read_pointer(folder, folder) is None
    try:
        make_page(folder)
    except ValueError as error:
        assert str(folder) in str(error)
    os.mkfifo(tmp_path / 'pipe.pth')
    with pytest.raises(safe_loading.Unreadable, match='no regular file'):
        safe_loading.load(tmp_path / 'pipe.pth')
    assert path_problem(str(tmp_path / 'pipe.pth')) == 'it is no regular file'


def test_values_and_names_that_no_curve_can_hold(tmp_path):
    name = '$\\frac{$'
    rows = [{'step': step, 'iter': step, 'loss': value, 'anchors': 1, f'anchors/{name}': value}
            for step, value in ((1, math.inf), (2, -math.inf), (3, 10 ** 400), (4, 1.0))]
    rows.append({'step': 4, 'mIoU': math.inf, f'IoU.{name}': 3.0})
    folder = run_folder(tmp_path / 'run', 'model = dict(type="A")\ntrain_cfg = dict(max_iters=4)')
    (folder / '20260101_000000/vis_data/scalars.json').write_text(
        ''.join(json.dumps(row) + '\n' for row in rows))
    assert html.escape(name) in make_page(folder)
    table = make_table([read_run(folder)])
    assert 'inf' in to_markdown(table) and mean_sd([1.0, math.inf])[0] == math.inf


# ---------------------------------------------------------------------------------------- archives


def test_odd_archives_are_one_sentence(tmp_path, monkeypatch):
    path = tmp_path / 'odd.zip'
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
        archive.writestr('a/b.png', b'content ' * 50)
    good = path.read_bytes()
    start = good.index(b'PK\1\2')
    for offset, value, local in ((8, 1, 6), (10, 99, 8)):  # encrypted; unknown compression
        data = bytearray(good)
        data[start + offset] = data[local] = value
        path.write_bytes(data)
        with pytest.raises(ConversionError, match='b.png'):
            Zip(path).read(*[info for _, info in Zip(path).matching('b.png')])
    path.write_bytes(good)
    monkeypatch.setattr(archives, 'MOST', 100)
    with pytest.raises(ConversionError, match='GiB'):
        Zip(path).read(*[info for _, info in Zip(path).matching('b.png')])
    with tarfile.open(tmp_path / 'odd.tar', 'w') as tar:
        info = tarfile.TarInfo('big')
        info.size = 200
        tar.addfile(info, io.BytesIO(bytes(200)))
    with pytest.raises(ConversionError, match='GiB'):
        [read() for _, _, read in stream_tar(tmp_path / 'odd.tar')]
