"""Keys between plain segmentor and wrapper, checkpoints that do not fit, and the export tool."""

import os
import subprocess
import sys
import warnings
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from mmseg_esl.looks.networks import networks_of, one_network
from mmseg_esl.semi.roles import UNSAID, Role, to_meta
from mmseg_esl.storage.fit import check_fit, strip_module
from mmseg_esl.storage.keys import networks_in, to_method, to_plain

EXPORT = Path(__file__).parents[2] / 'tools/export_segmentor.py'


class Segmentor(nn.Module):
    """The key structure of a plain segmentor."""

    def __init__(self, width=4, classes=3):
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, width, 3), nn.BatchNorm2d(width))
        self.decode_head = nn.Module()
        self.decode_head.conv_seg = nn.Conv2d(width, classes, 1)


class Wrapper(nn.Module):
    """The key structure of the teacher-student wrapper."""

    def __init__(self, **kwargs):
        super().__init__()
        self.student, self.teacher = Segmentor(**kwargs), Segmentor(**kwargs)
        self.projector = nn.Linear(4, 2)
        self.register_buffer('ema_steps', torch.zeros((), dtype=torch.long))


def parallel(state_dict):
    """The keys as DistributedDataParallel writes them."""
    return OrderedDict((f'module.{key}', value) for key, value in state_dict.items())


def assert_same(given, wanted):
    assert list(given) == list(wanted)
    assert all(torch.equal(given[key], wanted[key]) for key in wanted)


def test_networks_in():
    plain, wrapper = Segmentor().state_dict(), Wrapper().state_dict()
    assert networks_in(wrapper) == networks_in(parallel(wrapper)) == ['student', 'teacher']
    assert networks_in(plain) == networks_in(parallel(plain)) == networks_in({}) == []
    assert networks_in({k: 0 for k in wrapper if not k.startswith('teacher.')}) == ['student']
    assert networks_in({'backbone.backbone.a': 0, 'projector.convs.0.weight': 0}) == []


@pytest.mark.parametrize('prefix', [OrderedDict, parallel])
def test_plain_checkpoint_fills_both_networks(prefix):
    plain, wrapper = Segmentor(), Wrapper()
    result = wrapper.load_state_dict(to_method(prefix(plain.state_dict()), UNSAID), strict=False)
    assert not result.unexpected_keys
    assert all(key.startswith(('projector.', 'ema_steps')) for key in result.missing_keys)
    for network in (wrapper.student, wrapper.teacher):
        assert_same(network.state_dict(), plain.state_dict())


@pytest.mark.parametrize('prefix', [OrderedDict, parallel])
def test_wrapper_checkpoint_is_left_alone(prefix):
    state = Wrapper().state_dict()
    assert_same(to_method(prefix(state), UNSAID), state)


@pytest.mark.parametrize('which', ['teacher', 'student'])
@pytest.mark.parametrize('prefix', [OrderedDict, parallel])
def test_to_plain_loads_strictly(prefix, which):
    wrapper, plain = Wrapper(), Segmentor()
    plain.load_state_dict(to_plain(prefix(wrapper.state_dict()), which), strict=True)
    assert_same(plain.state_dict(), getattr(wrapper, which).state_dict())


def test_round_trip_changes_no_input():
    plain = Segmentor().state_dict()
    keys = list(plain)
    assert_same(to_plain(to_method(plain, UNSAID), 'teacher'), plain)
    assert list(plain) == keys


def test_named_errors():
    with pytest.raises(ValueError, match='plain segmentor'):
        to_plain(Segmentor().state_dict(), 'teacher')
    with pytest.raises(ValueError, match="'pupil'.*student or teacher"):
        to_plain(Wrapper().state_dict(), 'pupil')
    with pytest.raises(ValueError, match='empty'):
        to_method({}, UNSAID)


def renamed(state, **names):
    """A state dict whose networks have other names."""
    return OrderedDict(('.'.join([names.get(key.split('.')[0], key.split('.')[0]),
                                  *key.split('.')[1:]]), value) for key, value in state.items())


@pytest.mark.parametrize('prefix', [OrderedDict, parallel])
def test_a_checkpoint_says_which_networks_it_holds(prefix):
    """A judge has a backbone as well, but is no segmentor; the second student predicts."""
    roles = {'student': Role(), 'student2': Role(), 'judge': Role(plain=False)}
    state = renamed(Wrapper().state_dict(), teacher='student2')
    state['judge.backbone.weight'] = torch.zeros(2)
    checkpoint = dict(state_dict=prefix(state), meta=dict(networks=to_meta(roles, 'student2')))
    assert networks_of(checkpoint) == ({'student': Role(), 'student2': Role()}, 'student2')
    for asked, name in ((None, 'student2'), ('student', 'student')):
        found, plain = one_network(checkpoint, asked)
        assert found == name
        assert_same(plain, to_plain(state, name))
    for wrong in ('judge', 'teacher'):
        with pytest.raises(ValueError, match=f"'{wrong}': choose student or student2$"):
            one_network(checkpoint, wrong)


def test_a_checkpoint_that_does_not_say():
    """Release 0.1.0 trained two networks, of which the teacher predicts."""
    state = Wrapper().state_dict()
    for checkpoint in (state, dict(state_dict=state), dict(state_dict=state, meta=dict(iter=3))):
        assert networks_of(checkpoint) == (UNSAID, 'teacher')
        assert one_network(checkpoint)[0] == 'teacher'
    twins = renamed(state, teacher='student2')
    assert networks_of(twins) == ({'student': Role(), 'student2': Role()}, 'student')
    assert networks_of(Segmentor().state_dict()) == ({}, None)
    with pytest.raises(ValueError, match='plain segmentor'):
        one_network(Segmentor().state_dict())


def test_an_average_that_is_missing_starts_as_what_it_follows():
    state = Wrapper().state_dict()
    alone = {key: value for key, value in state.items() if not key.startswith('teacher.')}
    found = to_method(alone, UNSAID)
    assert_same(to_plain(found, 'teacher'), to_plain(state, 'student'))


def test_another_method_without_a_trained_network_is_refused():
    twins = {'student': Role(), 'student2': Role()}
    with pytest.raises(ValueError, match='holds student, teacher and no student2.*export_segm'):
        to_method(Wrapper().state_dict(), twins)
    plain = Segmentor().state_dict()
    filled = to_method(plain, twins)
    for name in twins:
        assert_same(to_plain(filled, name), plain)


def test_strip_module_keeps_inner_modules():
    assert list(strip_module({'module.a.module.b': 0, 'modules.c': 1})) == ['a.module.b',
                                                                            'modules.c']


# ----------------------------------------------------------------------------------------- fit


def fit(given, wanted, source):
    """As a method does when a checkpoint is loaded into it, or for a plain segmentor."""
    networks = networks_in(wanted)
    if networks:
        given = to_method(given, UNSAID)
    elif networks_in(given):
        given = to_plain(given, 'teacher')
    check_fit(given, wanted, source, networks)


@pytest.mark.parametrize('given', [Segmentor, Wrapper])
@pytest.mark.parametrize('wanted', [Segmentor, Wrapper])
@pytest.mark.parametrize('prefix', [OrderedDict, parallel])
def test_fitting_checkpoint_is_silent(given, wanted, prefix):
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        fit(prefix(given().state_dict()), wanted().state_dict(), 'a.pth')


@pytest.mark.parametrize('given', [Segmentor, Wrapper])
@pytest.mark.parametrize('wanted, networks', [(Segmentor, 1), (Wrapper, 2)])
def test_other_width_is_refused(given, wanted, networks):
    with pytest.raises(ValueError) as caught:
        fit(given(width=8).state_dict(), wanted().state_dict(), 'wide.pth')
    message = str(caught.value)
    # conv weight and bias, four of the batch norm; its count of batches has no shape to differ in
    assert f'{6 * networks} of {7 * networks} tensors' in message
    assert 'wide.pth' in message and 'backbone.0.weight' in message
    assert '(8, 3, 3, 3)' in message and '(4, 3, 3, 3)' in message
    assert f'and {6 * networks - 3} more' in message and 'segmentor.backbone' in message


def test_missing_backbone_tensor_is_refused():
    state = Segmentor().state_dict()
    del state['backbone.0.bias']
    with pytest.raises(ValueError, match=r'1 of 7 .*: backbone\.0\.bias \(missing\)'):
        fit(state, Segmentor().state_dict(), 'a.pth')


def test_weights_of_a_backbone_alone_are_told_where_to_go():
    state = Segmentor().backbone.state_dict()
    with pytest.raises(ValueError, match='init_cfg'):
        fit(state, Wrapper().state_dict(), 'resnet.pth')


def test_batch_count_may_be_missing():
    state = Segmentor().state_dict()
    del state['backbone.1.num_batches_tracked']
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        fit(state, Segmentor().state_dict(), 'old.pth')


@pytest.mark.parametrize('wanted', [Segmentor, Wrapper])
def test_other_number_of_classes_only_warns(wanted):
    with pytest.warns(UserWarning, match='a.pth.*19 classes, this model has 3.*conv_seg'):
        fit(Segmentor(classes=19).state_dict(), wanted().state_dict(), 'a.pth')


def test_extra_auxiliary_head_of_the_checkpoint_is_silent():
    state = Segmentor().state_dict()
    state['auxiliary_head.conv_seg.weight'] = torch.zeros(2, 2, 1, 1)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        fit(state, Segmentor().state_dict(), 'a.pth')


# -------------------------------------------------------------------------------------- export

# reads the exported file as a process would that knows nothing of mm* or of this package
READ = """
import sys, torch
content = torch.load(sys.argv[1], weights_only=True)
model = torch.nn.Module()
assert not {'mmengine', 'mmseg', 'mmseg_esl'} & set(sys.modules)
print(content['meta']['dataset_meta'], content['meta']['iter'])
print(*content['state_dict'])
"""


@pytest.fixture
def tool(monkeypatch):
    """The export tool as a module, whose main() runs here with the given arguments."""
    monkeypatch.syspath_prepend(str(EXPORT.parent))
    import export_segmentor

    def main(*args):
        monkeypatch.setattr(sys, 'argv', ['export_segmentor.py', *map(str, args)])
        export_segmentor.main()

    return export_segmentor, main


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """(path, wrapper) of a checkpoint with what mmengine puts beside the weights."""
    from mmengine.logging import HistoryBuffer
    wrapper = Wrapper()
    path = tmp_path_factory.mktemp('export') / 'iter_7.pth'
    meta = dict(iter=7, cfg='model = dict()', dataset_meta=dict(
        classes=('road', 'car'), palette=np.array([[0, 1, 2], [3, 4, 5]]), reduce_zero_label=False))
    torch.save(dict(state_dict=wrapper.state_dict(), meta=meta, optimizer=dict(state=[1]),
                    message_hub=dict(log_scalars=dict(loss=HistoryBuffer([1.], [1])))), path)
    return path, wrapper


@pytest.mark.parametrize('which, options', [('teacher', []), ('student', ['--from', 'student'])])
def test_export(tool, trained, tmp_path, capsys, which, options):
    path, wrapper = trained
    out = tmp_path / 'new' / 'plain.pth'
    tool[1](path, out, *options)
    said = capsys.readouterr().out
    assert which in said and str(out) in said
    assert [file.name for file in out.parent.iterdir()] == ['plain.pth']  # nothing temporary left

    content = torch.load(out, weights_only=True)
    assert set(content) == {'state_dict', 'meta'}
    plain = Segmentor()
    plain.load_state_dict(content['state_dict'], strict=True)
    assert_same(plain.state_dict(), getattr(wrapper, which).state_dict())


def test_export_from_the_command_line_is_read_without_mm(trained, tmp_path):
    out = tmp_path / 'plain.pth'
    command = [sys.executable, str(EXPORT), str(trained[0]), str(out)]
    written = subprocess.run(command, text=True, capture_output=True)
    assert written.returncode == 0, written.stderr
    read = subprocess.run([sys.executable, '-c', READ, str(out)], text=True, cwd=str(tmp_path),
                          capture_output=True)
    assert read.returncode == 0, read.stderr
    assert "'palette': [[0, 1, 2], [3, 4, 5]]" in read.stdout and "('road', 'car')" in read.stdout


def test_export_refuses_what_is_plain_already(tool, tmp_path):
    path, out = tmp_path / 'plain.pth', tmp_path / 'out.pth'
    torch.save(dict(state_dict=Segmentor().state_dict()), path)
    with pytest.raises(SystemExit, match='is a plain segmentor'):
        tool[1](path, out)
    assert not out.exists()


def test_export_names_what_has_no_weights(tool, trained, tmp_path):
    path = tmp_path / 'other.pth'
    torch.save(dict(weights={}), path)
    with pytest.raises(SystemExit, match='no state_dict'):
        tool[1](path, tmp_path / 'out.pth')
    with pytest.raises(SystemExit, match='is a folder'):
        tool[1](trained[0], tmp_path)


def test_failed_write_leaves_the_old_file(tool, trained, tmp_path, monkeypatch):
    out = tmp_path / 'out.pth'
    out.write_bytes(b'old')

    def fail(content, file):
        file.write(b'half')
        raise OSError('disk full')

    monkeypatch.setattr(torch, 'save', fail)
    with pytest.raises(SystemExit, match='out.pth cannot be written: disk full'):
        tool[1](trained[0], out)
    assert out.read_bytes() == b'old' and os.listdir(tmp_path) == ['out.pth']


def test_export_refuses_a_malicious_checkpoint(tool, tmp_path):
    class Evil:
        def __reduce__(self):
            return os.system, (f'touch {tmp_path / "marker"}', )

    torch.save(dict(state_dict={}, meta=Evil()), tmp_path / 'evil.pth')
    with pytest.raises(SystemExit, match='evil.pth is refused: it names .*system'):
        tool[1](tmp_path / 'evil.pth', tmp_path / 'out.pth')
    assert os.listdir(tmp_path) == ['evil.pth']
