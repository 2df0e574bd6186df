"""The page on adding a method: its files, as they stand there, train, resume, export and test."""
import os
import re
import subprocess
import sys
from pathlib import Path

import forked
import pytest
import torch
from mmseg.registry import MODELS

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / 'tests/integration'))
from project import write_project  # noqa: E402

PAGE = ROOT / 'docs/add_a_method.md'


@pytest.fixture(scope='module')
def project(tmp_path_factory):
    """A user's project with the page's files in it: its folder, and a way to run commands."""
    folder = tmp_path_factory.mktemp('page')
    write_project(folder)
    files = re.findall(r'```python\n# (\w+\.py)\n(.*?)```', PAGE.read_text(), flags=re.S)
    assert [name for name, _ in files] == ['entropy_min.py', 'entropy_min_config.py',
                                           'test_entropy_min.py']
    for name, text in files:
        (folder / name).write_text(text)
    paths = [str(folder), str(ROOT), str(ROOT / 'tests')]

    def run(*command):
        done = subprocess.run([sys.executable, *map(str, command)], cwd=folder, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              env={**os.environ, 'PYTHONPATH': os.pathsep.join(paths)})
        assert done.returncode == 0, done.stdout[-4000:]
        return done.stdout

    return folder, run


def commands() -> list:
    """The page's command lines, without what sets the environment."""
    lines = re.search(r'```bash\n(.*?)```', PAGE.read_text(), flags=re.S).group(1).splitlines()
    assert len(lines) == 3
    return [line.split('python ', 1)[1].split() for line in lines]


def test_its_commands(project, tmp_path):
    folder, _ = project
    for tool, *args in commands():
        assert not forked.command(ROOT / tool, *args, folder=folder, file=tmp_path / 'said',
                                  path=[folder]), (tmp_path / 'said').read_text()[-4000:]
    assert 'wrote the teacher' in (tmp_path / 'said').read_text()
    content = torch.load(folder / 'work_dirs/entropy/iter_4.pth', weights_only=True)
    assert content['meta']['networks']['predicts'] == 'teacher'
    assert torch.load(folder / 'teacher.pth', weights_only=True)['state_dict']
    logs = (folder / 'work_dirs/entropy').glob('*/vis_data/scalars.json')
    log = ''.join(path.read_text() for path in logs)  # of both starts
    assert 'loss_entropy' in log and 'teacher/mIoU' in log and '"entropy"' in log


def test_its_test(project):
    folder, run = project
    assert '1 passed' in run('-m', 'pytest', '-q', '-c', os.devnull, '--rootdir', folder,
                             'test_entropy_min.py')
    # and it can fail: a factor of two would be seen
    source = (folder / 'entropy_min.py').read_text()
    (folder / 'entropy_min.py').write_text(source.replace('* mean\n', '* 2 * mean\n'))
    with pytest.raises(AssertionError, match='1 failed'):
        run('-m', 'pytest', '-q', '-c', os.devnull, '--rootdir', folder, 'test_entropy_min.py')
    (folder / 'entropy_min.py').write_text(source)


def test_the_page_is_true():
    """What it says of the package: the verbs are there, and the suite that it names."""
    from mmseg_esl.semi import Batch, SemiSegmentor
    for verb in ('train_on', 'see', 'strong', 'ramp', 'divisor', 'build_own'):
        assert hasattr(SemiSegmentor, verb)
    for name in ('labeled', 'weak', 'labels', 'valid'):
        assert hasattr(Batch, name)
    assert (ROOT / 'tests/methods/test_every_method.py').is_file()
    assert MODELS.get('EntropyMin') is None  # nothing of the page is in the package
