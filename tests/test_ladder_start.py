"""What the rows of a ladder begin from: every network of a method, from trained segmentors."""
import pytest
import torch

from mmseg_esl.ladder import Row
from mmseg_esl.ladder.start import write_start


def segmentor(value, prefix=''):
    return {f'{prefix}backbone.conv.weight': torch.full((2,), float(value)),
            f'{prefix}decode_head.conv_seg.weight': torch.full((3,), float(value))}


@pytest.fixture
def paths(tmp_path):
    torch.save(dict(state_dict=segmentor(1)), tmp_path / 'plain.pth')
    torch.save(dict(state_dict={**segmentor(2, 'student.'), 'steps': torch.tensor(3)}),
               tmp_path / 'supervised.pth')
    return [str(tmp_path / 'plain.pth'), str(tmp_path / 'supervised.pth')]


@pytest.mark.parametrize('method, first, second', [
    ('supervised', {'student'}, set()),
    ('esl', {'student', 'teacher'}, set()),
    ('gta_seg', {'student', 'teacher'}, {'assistant'}),
    ('cps', {'student'}, {'student2'}),
    ('gct', {'student'}, {'student2'})])
def test_every_network_begins_trained_and_trained_ones_apart(
        method, first, second, paths, tmp_path):
    target = write_start(Row(method, method), paths, tmp_path / 'start.pth')
    state = torch.load(target, weights_only=True)['state_dict']
    expected = {}
    for name in first:
        expected.update(segmentor(1, f'{name}.'))
    for name in second:
        expected.update(segmentor(2, f'{name}.'))
    assert state.keys() == expected.keys()
    for key, value in expected.items():
        assert torch.equal(state[key], value), key


def test_two_trained_networks_want_two_checkpoints(paths, tmp_path):
    with pytest.raises(ValueError, match='CPS trains 2 networks.*2 checkpoints'):
        write_start(Row('cps', 'cps'), paths[:1], tmp_path / 'start.pth')
    assert not (tmp_path / 'start.pth').exists()
