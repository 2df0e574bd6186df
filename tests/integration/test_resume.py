"""An interrupted run goes on where it was."""
import shutil
from pathlib import Path

import pytest
import torch
from commands import logged, tool


@pytest.fixture(scope='module')
def interrupted(trained, tmp_path_factory):
    """A work folder as an interruption after iteration 3 leaves it."""
    work = tmp_path_factory.mktemp('interrupted')
    shutil.copy(trained[1] / 'iter_3.pth', work)
    (work / 'last_checkpoint').write_text(str(work / 'iter_3.pth'))
    return work


def test_resume(trained, interrupted, monkeypatch):
    config, first_work, _ = trained
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    tool(monkeypatch, 'train.py', config, '--resume', '--work-dir', interrupted, '--cfg-options',
         'default_hooks.dump.type=dump_hook.DumpStateHook',
         f'default_hooks.dump.folder={interrupted / "state"}', 'visualizer.name=resumed')

    saved = torch.load(interrupted / 'iter_3.pth', weights_only=False)['state_dict']
    begin, end = (torch.load(interrupted / f'state/{when}_rank0.pth') for when in ('begin', 'end'))
    assert list(saved) == list(begin)
    assert not [key for key in saved if not torch.equal(saved[key], begin[key])]

    # part state was there, was not started anew, and goes on
    assert saved['part_memory.initialised'] and saved['part_memory.pushed'].sum() > 0
    assert (end['part_memory.pushed'] >= begin['part_memory.pushed']).all()
    assert end['part_memory.pushed'].sum() > begin['part_memory.pushed'].sum()
    moved = (end['part_memory.prototypes'] - begin['part_memory.prototypes']).norm()
    assert 0 < moved < 0.2 * begin['part_memory.prototypes'].norm()  # momentum 0.99 thrice
    assert (saved['ema_steps'], end['ema_steps']) == (3, 6)

    assert [entry['iter'] for entry in logged(interrupted) if 'loss' in entry] == [4, 5, 6]
    said = ''.join(path.read_text() for path in interrupted.glob('*/*.log'))
    assert 'clustering encoder features' not in said
    said = ''.join(path.read_text() for path in first_work.glob('*/*.log'))
    assert said.count('clustering encoder features') == 1  # so the line above would be found

    momenta = [entry['ema_momentum'] for entry in logged(interrupted) if 'loss' in entry]
    assert momenta == pytest.approx([1 - 1 / (t + 1) for t in (3, 4, 5)])
