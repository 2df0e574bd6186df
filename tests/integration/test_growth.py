"""What dev/drills/growth.py finds at 150 classes and 64 ranks, against sums by hand."""
import runpy
from pathlib import Path

import pytest
import tiny

DRILL = runpy.run_path(str(Path(__file__).parents[2] / 'dev/drills/growth.py'))


@pytest.mark.parametrize('name', ['esl', 'u2pl'])
def test_bytes_of_memories_and_gathers(name):
    path = next(path for path in DRILL['configs']() if path.parent.name == name)
    with tiny.quiet():
        found = DRILL['measure'](path, 150, 10, 64, (2, 2))
    if name == 'esl':
        queues = 1500 * 257 * 512 * 4
        assert found['memory']['part_memory.queue'] == queues
        assert found['gathered'] == 64 * 4 * 1500 * (512 * 4 + 1)  # means, and which there are
        assert found['reduced'] > 1500 * 2049 * 4
    else:
        queues = (50000 + 149 * 30000) * 256 * 4
        pixels = 4 * 129 * 129 * (256 * 4 + 150 + 1)  # a feature, its queues, whether any
        assert found['memory']['class_queues.queue'] == queues
        assert found['gathered'] == 64 * (pixels + 2 * 513 * 513 * 4)  # and entropies


def test_every_method_is_in_the_table():
    methods = {path.parent.name for path in DRILL['configs']()}
    folders = {path.parent.name for path in (Path(__file__).parents[2] / 'configs').glob(
        '*/method.py')}
    assert methods == folders
