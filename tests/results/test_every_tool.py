"""What is no checkpoint, no folder of a run or no config: one sentence from every tool."""
import importlib.util
import json
import os
import re
import sys
from pathlib import Path

import pytest
import tiny
import torch
from test_summarize import config, training, validation, write_start

TOOLS = Path(__file__).parents[2] / 'tools'
CONFIG = f"""
default_scope = 'mmseg'
custom_imports = dict(imports=['mmseg_esl.register'])
model = {tiny.esl_cfg()!r}
test_dataloader = {tiny.val_loader_cfg('data')!r}
test_evaluator = dict(type='IoUMetric')
test_cfg = dict(type='TestLoop')
log_level = 'ERROR'
"""


@pytest.fixture(scope='module')
def project(tmp_path_factory):
    """A config, its data, and what is no checkpoint of it."""
    folder = tmp_path_factory.mktemp('project')
    tiny.write_data(folder / 'data')
    (folder / 'semi.py').write_text(CONFIG)
    (folder / 'supervised.py').write_text(CONFIG + f'model = {tiny.segmentor()!r}\n')
    state = tiny.esl().state_dict()
    torch.save(dict(state_dict=state), folder / 'good.pth')
    torch.save(dict(state_dict=state, meta=None, message_hub=None), folder / 'silent.pth')
    torch.save({}, folder / 'empty.pth')
    torch.save(dict(state_dict={'student.backbone.a': torch.ones(1)}), folder / 'other.pth')
    (folder / 'words.pth').write_text('not a checkpoint')
    data = bytearray((folder / 'good.pth').read_bytes())
    data[data.index(b'PK\1\2') + 10] ^= 8  # of the directory: another way of compression
    (folder / 'flipped.pth').write_bytes(data)
    (folder / 'folder.pth').mkdir()
    os.mkfifo(folder / 'pipe.pth')
    return folder


@pytest.fixture
def call(project, monkeypatch, capsys):
    """(exit status or 0, what was said) of a tool, in the project's folder."""
    def run(tool, *args):
        monkeypatch.chdir(project)
        monkeypatch.setattr(sys, 'argv', [f'{tool}.py', *map(str, args)])
        status = 0
        try:
            spec = importlib.util.spec_from_file_location(f'tool_{tool}', TOOLS / f'{tool}.py')
            module = importlib.util.module_from_spec(spec)
            monkeypatch.setitem(sys.modules, spec.name, module)
            spec.loader.exec_module(module)  # 'test' is a module of Python's too
            module.main()
        except SystemExit as ended:
            status = ended.code or 0
        said = capsys.readouterr().err
        return (1, status) if isinstance(status, str) else (status, said)
    return run


CHECKPOINTS = dict(
    gone='gone.pth does not exist', folder='is a folder', pipe='no regular file',
    empty='(no|is a|162) (state_dict|state dict|tensors)|state dict is empty|does not fit',
    other='another architecture|does not fit', words='damaged, or no checkpoint',
    flipped='damaged, or no checkpoint')


@pytest.mark.parametrize('name', CHECKPOINTS)
def test_what_is_no_checkpoint(call, name):
    path = f'{name}.pth'
    for tool, status, args in (
            ('predict', 2, ['semi.py', path, 'data/img', '--out', 'masks']),
            ('visualize', 1, ['semi.py', path, '--out', 'pictures']),
            ('test', 1, ['semi.py', path]),
            ('export_onnx', 1, ['semi.py', path, 'a.onnx', '--size', '32', '32']),
            ('export_segmentor', 1, [path, 'out.pth'])):
        if (tool, name) == ('export_segmentor', 'other'):
            continue  # it knows no network that this does not fit
        found, said = call(tool, *args)
        assert found == status, (tool, said)
        assert re.search(CHECKPOINTS[name], said), (tool, said)
        assert said.strip().count('\n') == 0, (tool, said)


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
@pytest.mark.parametrize('kind', ['semi', 'supervised'])
def test_weights_that_are_not_finite(call, project, kind, value):
    """A method's and a plain segmentor's: no tool predicts with them."""
    state = tiny.esl().state_dict()
    if kind == 'supervised':
        state = {key[len('student.'):]: tensor for key, tensor in state.items()
                 if key.startswith('student.')}
    for key in state:
        if key.endswith('conv_seg.bias'):
            state[key] = torch.full_like(state[key], value)
    torch.save(dict(state_dict=state), project / 'odd.pth')
    for tool, status, args in (
            ('predict', 2, [f'{kind}.py', 'odd.pth', 'data/img', '--out', 'masks']),
            ('visualize', 1, [f'{kind}.py', 'odd.pth', '--out', 'pictures']),
            ('test', 1, [f'{kind}.py', 'odd.pth']),
            ('export_onnx', 1, [f'{kind}.py', 'odd.pth', 'a.onnx', '--size', '32', '32'])):
        found, said = call(tool, *args)
        assert found == status and 'is of a training that diverged' in said, (tool, said)
        assert 'conv_seg.bias' in said and said.strip().count('\n') == 0, (tool, said)


def test_a_checkpoint_that_says_none_of_itself(call, project):
    status, said = call('export_segmentor', 'silent.pth', 'out.pth')
    assert status == 0 and torch.load(project / 'out.pth')['meta'] == {}


def test_places_that_cannot_be_written_or_read(call):
    for tool, status, args, words in (
            ('export_segmentor', 1, ['good.pth', 'semi.py/out.pth'], 'cannot be written'),
            ('test', 1, ['gone.py', 'good.pth'], "test.py: there is no config 'gone.py'"),
            ('train', 1, ['gone.py'], "train.py: there is no config 'gone.py'"),
            ('cost', 1, ['gone.py'], 'cost.py: gone.py: FileNotFoundError'),
            ('cost', 1, ['supervised.py'], "'EncoderDecoder' is no method"),
            ('ladder', 1, ['--data', 'gone.py', '--out', 'l'], 'ladder.py: .*gone.py'),
            ('st_plus_plus', 1, ['gone.py', '--work-dir', 'w'], 'st_plus_plus.py: .*gone.py')):
        found, said = call(tool, *args)
        assert found == status and re.search(words, said), (tool, said)


ROW = dict(time=0.1, step=100)
FOLDERS = {
    'text for a value': dict(scalars={'teacher/mIoU': '41', **ROW}),
    'nothing for a value': dict(scalars={'teacher/mIoU': None, **ROW}),
    'an infinity': dict(scalars={'teacher/mIoU': float('inf'), **ROW}),
    'a list for the model': dict(config='model = [1]'),
    'text for the model': dict(config='model = dict(type=3, segmentor="x")'),
    'a list for val_dataloader': dict(config='val_dataloader = [1]'),
    'a list for prefix': dict(config='val_evaluator = dict(prefix=[1])'),
    'a list for randomness': dict(config='randomness = [1]', run={}),
    'text for max_iters': dict(config='train_cfg = dict(max_iters="100")'),
    'roles of numbers': dict(method=dict(name='A', networks=dict(roles=3, predicts=[1]))),
    'a list for a name': dict(method=dict(name=['A'])),
    'a list for settings': dict(method=dict(name='A', settings=[1])),
    'deep run.json': dict(run='[' * 100000), 'a list for protocol.json': dict(protocol=[1]),
}


def odd(folder, scalars=None, config_=None, run=None, protocol=None, method=None):
    made = write_start(folder, [training(100), scalars or validation(100, 41.0)], config())
    start = made / '20260101_000000'
    if config_:
        with open(start / 'vis_data/config.py', 'a') as file:
            file.write(config_ + '\n')
    if method:
        run = dict(json.loads((start / 'run.json').read_text()), method=method)
    for name, content in (('run', run), ('protocol', protocol)):
        if content is not None:
            text = content if isinstance(content, str) else json.dumps(content)
            (start / f'{name}.json').write_text(text)
    return made


@pytest.mark.parametrize('name', FOLDERS)
def test_what_no_training_leaves(call, tmp_path, name):
    files = dict(FOLDERS[name])
    folder = odd(tmp_path / 'odd', config_=files.pop('config', None), **files)
    good = write_start(tmp_path / 'good', [training(100), validation(100, 40.0)], config())
    base = write_start(tmp_path / 'base', [training(100), validation(100, 40.0)],
                       config(variant='sup'))
    for tool, args in (('compare', [folder, base]), ('compare', [good, '--baseline', folder]),
                       ('summarize', [folder]), ('report', [folder]),
                       ('report', [good, '--baseline', folder])):
        status, said = call(tool, *args)
        if status:
            assert status == 1 and str(folder) in said and len(said) < 1000, (tool, said)
            assert said.count('\n') <= 1 and said.startswith(f'{tool}.py: '), (tool, said)
    page = (good / 'report.html').read_text()
    assert 'cannot be said: ' in page or 'One run each cannot tell' in page


@pytest.mark.parametrize('text', ['[', 'null', '{}', '{"made_from": [], "finished": {}}',
                                  '{"made_from": {}, "finished": {"a": [1]}}', '[' * 5000])
def test_a_record_of_stages_that_is_none(tmp_path, text):
    from mmseg_esl.stages import run_stages
    (tmp_path / 'stages.json').write_text(text)
    with pytest.raises(ValueError, match=r'stages\.json is not as st_plus_plus\.py leaves it'):
        run_stages(tmp_path, {'a': None}, {})


@pytest.mark.parametrize('masks, folder', [([1], 'a'), ({'a': 1}, 'a'), ({}, 3)])
def test_a_record_of_pseudo_labels_that_is_none(tmp_path, masks, folder):
    from mmseg_esl.datasets.pseudo import read_record
    path = tmp_path / 'pseudo_labels.json'
    for text in (json.dumps(dict(what='a', complete=True, image_folder=folder, masks=masks)),
                 '[' * 5000):
        path.write_text(text)
        with pytest.raises(ValueError, match='is no record of pseudo labels'):
            read_record(path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ValueError, match='is no record of pseudo labels .no regular file'):
        read_record(path)
