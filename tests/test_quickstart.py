"""The notebook, and the examples of the interface's docstrings, as a reader runs them.

Cells are plain Python but for ``!mmseg-esl``, so they are executed here: nbclient would bring a
kernel, zmq and some twenty packages along, and a process that imports everything again.
"""
from __future__ import annotations

import doctest
import json
import os
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import tiny
from PIL import Image

from mmseg_esl import api, commands

NOTEBOOK = Path(__file__).parents[1] / 'docs/quickstart.ipynb'
STEPS, FEW = '600', '8'  # learning is not what is tested


def cells() -> list[str]:
    book = json.loads(NOTEBOOK.read_text(encoding='utf-8'))
    return [''.join(cell['source']) for cell in book['cells'] if cell['cell_type'] == 'code']


def shell(line: str) -> None:
    """A line of a shell, ``mmseg-esl ...``, in this process; what it prints goes nowhere."""
    name, *args = shlex.split(line.partition('>')[0])
    assert name == 'mmseg-esl'
    tiny.forget_visualizers()
    with tiny.quiet():
        commands.main(args)


@pytest.fixture(scope='module')
def ran(tmp_path_factory):
    """The folder in which the notebook has run, its variables, and what its last cell shows."""
    folder, patch = tmp_path_factory.mktemp('notebook'), pytest.MonkeyPatch()
    space: dict = {'shell': shell}
    patch.chdir(folder)
    patch.setattr('sys.argv', ['pytest'])
    patch.setattr('sys.path', [*os.sys.path])
    patch.setenv(commands.CALLED, 'mmseg-esl')  # which the command sets, and would stay
    try:
        *first, last = cells()
        for text in first:
            exec('\n'.join(f'shell({line[1:]!r})' if line.startswith('!') else line
                           for line in text.replace(STEPS, FEW).splitlines()), space)
        body, _, shown = last.rstrip().rpartition('\n')
        exec(body, space)
        picture = eval(shown, space)
        shutil.copy(f'work_dirs/my_esl/iter_{FEW}.pth', f'work_dirs/my_esl/iter_{STEPS}.pth')
        yield folder, space, picture
    finally:
        patch.undo()


def test_the_notebook_runs(ran):
    folder, space, picture = ran
    assert {path.parent.name for path in folder.glob(f'work_dirs/*/iter_{FEW}.pth')} == {
        'my_esl', 'my_esl_supervised'}
    found = space['comparison']
    assert (found.baseline, found.method, found.network) == ('supervised', 'ESL+', 'teacher')
    mask = space['mask']
    assert mask.shape == (64, 64) and set(np.unique(mask)) <= {0, 1, 2}
    painted = np.asarray(picture.resize((128, 64), Image.NEAREST))
    assert np.array_equal(painted[:, :64], np.asarray(Image.open(folder / 'data/images/val/0.png')))
    assert np.array_equal(painted[:, 64:], space['COLOURS'][mask])


def test_what_it_shows_is_what_it_prints_today(ran):
    """The stored tables have the rows, and the sentences the words, of today's code."""
    book = json.loads(NOTEBOOK.read_text(encoding='utf-8'))
    stored = [''.join(output.get('text', ())) for cell in book['cells']
              for output in cell.get('outputs', ()) if output['output_type'] == 'stream']
    today = ran[1]['comparison'].markdown()
    assert len(stored) == 1
    for text in (stored[0], today):
        assert [line.split('|')[1].strip() for line in text.splitlines() if line[:1] == '|'][:4] \
            == ['', '---', 'supervised', 'ESL+, teacher']
        assert {'| ground |', '| rows |', '| columns |'} <= {
            line[:line.find('|', 1) + 1] for line in text.splitlines()}
        assert 'One run each cannot tell: ' in text


def test_the_notebook_is_of_one_screen_and_says_no_path_of_a_machine():
    assert sum(len(text.splitlines()) for text in cells()) <= 70
    assert not any(word in NOTEBOOK.read_text(encoding='utf-8') for word in ('/tmp/', '/home/'))


def test_all_examples_are_run_by_a_test():
    """Those of the interface below, those of lists in tests/splits/test_protocols.py."""
    package = Path(api.__file__).parent
    with_examples = {path.relative_to(package).as_posix() for path in package.rglob('*.py')
                     if '>>> ' in path.read_text(encoding='utf-8')}
    assert with_examples == {'api.py', 'results/compare.py', 'splits/lists.py'}


@pytest.mark.parametrize('function', [api.load, api.convert, api.compare, api.Predictor.predict],
                         ids=lambda function: function.__name__)
def test_examples_run(ran, monkeypatch, function):
    monkeypatch.chdir(ran[0])
    [test] = doctest.DocTestFinder(recurse=False).find(function, function.__name__, globs={})
    said: list = []
    result = doctest.DocTestRunner(verbose=False).run(test, out=said.append)
    assert result.attempted > 1 and not result.failed, ''.join(said)
