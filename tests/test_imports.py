"""Who may import whom: the layers of the package, checked in fresh processes."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / 'mmseg_esl'

BLOCK = """
import sys

class Block:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.split('.')[0] in {names!r}:
            raise ImportError(f'{{name}} is blocked')

sys.meta_path.insert(0, Block)
"""
MM = ('mmengine', 'mmcv', 'mmseg', 'mmpretrain', 'mmdet')


def run(code):
    return subprocess.run([sys.executable, '-c', code], cwd=PACKAGE.parent, text=True,
                          capture_output=True)


def imported_modules(path):
    """Absolute and relative module names that a file imports, wherever in the file."""
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = '.' * node.level + (node.module or '')
            yield base
            yield from (f'{base}.{alias.name}' for alias in node.names)


def test_version_imports_nothing_heavy():
    result = run('import sys, mmseg_esl; print(mmseg_esl.__version__); '
                 f'assert not {{"torch", "numpy", *{MM}}} & set(sys.modules)')
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip().count('.') == 2


def test_functional_needs_no_mm_package():
    code = BLOCK.format(names=MM) + """
import importlib, pkgutil
import mmseg_esl.functional as functional
for module in pkgutil.iter_modules(functional.__path__):
    importlib.import_module(f'mmseg_esl.functional.{module.name}')
"""
    result = run(code)
    assert result.returncode == 0, result.stderr


def test_block_blocks():
    """The test above would notice: the registered components do need mm*."""
    result = run(BLOCK.format(names=MM) + 'import mmseg_esl.register')
    assert result.returncode != 0
    assert 'mmseg_esl cannot run on this installation' in result.stderr
    assert 'pip install' in result.stderr


@pytest.mark.parametrize('name', ['results', 'report'])
def test_of_mm_only_mmengine_is_needed(name):
    result = run(BLOCK.format(names=MM[1:]) + f'import mmseg_esl.{name}')
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize('path', sorted((PACKAGE / 'functional').glob('*.py')),
                         ids=lambda path: path.name)
def test_functional_is_plain_torch(path):
    for name in imported_modules(path):
        assert name.split('.')[0] not in MM, f'{path.name} imports {name}'
        assert not name.startswith('torch.distributed'), f'{path.name} imports {name}'
        assert not name.startswith('..'), f'{path.name} imports {name} from above functional'


@pytest.mark.parametrize('path', sorted((PACKAGE / 'datasets').glob('*.py')),
                         ids=lambda path: path.name)
def test_datasets_do_not_name_models(path):
    for name in imported_modules(path):
        assert not name.startswith(('mmseg_esl.models', '..models')), f'{path.name} imports {name}'


def test_datasets_do_not_import_models():
    # nothing before it: that is how a spawned loader worker begins
    result = run('import mmseg_esl.datasets, sys; '
                 'loaded = [m for m in sys.modules if m.startswith("mmseg_esl.models")]; '
                 'assert not loaded, loaded')
    assert result.returncode == 0, result.stderr


def test_register_fills_the_registries():
    result = run('import mmseg_esl.register; from mmseg.registry import MODELS, DATASETS; '
                 'assert MODELS.get("ESL") and DATASETS.get("SemiDataset")')
    assert result.returncode == 0, result.stderr
