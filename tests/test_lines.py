"""Short files and short steps, so that a method is read at a glance."""
import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / 'mmseg_esl'
METHODS = sorted((PACKAGE / 'methods').glob('*.py'))


def lines(path) -> int:
    return len(path.read_text(encoding='utf-8').splitlines())


def test_the_frame():
    assert sum(map(lines, (PACKAGE / 'semi').glob('*.py'))) < 700


@pytest.mark.parametrize('path', METHODS, ids=lambda path: path.stem)
def test_methods(path):
    assert lines(path) <= 200
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if isinstance(node, ast.FunctionDef) and node.name == 'step':
            assert node.end_lineno - node.lineno + 1 <= 60


def test_decorators_stand_once():
    """Two classmethods one after the other are an error from Python 3.13 on, and before 3.9."""
    for path in PACKAGE.rglob('*.py'):
        for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
            if isinstance(node, ast.FunctionDef):
                names = [ast.dump(each) for each in node.decorator_list]
                assert len(names) == len(set(names)), f'{path.name}: {node.name}'
