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
def test_nothing_of_mm_is_needed(name):
    result = run(BLOCK.format(names=MM) + f'import mmseg_esl.{name}')
    assert result.returncode == 0, result.stderr


# Room -> the rooms that its files may import, lazily too (CONTRIBUTING.md draws the picture).
RULES = {
    'terminal': set(), 'commands': {'terminal'}, 'progress': set(), 'processes': set(),
    'functional': set(), 'storage': {'commands'}, 'splits': {'storage'},
    'stack': {'storage', 'commands'},
    'results': {'storage', 'splits', 'commands'},
    'report': {'results', 'storage', 'splits', 'commands'},
    'datasets': {'stack', 'storage', 'commands'},
    'models': {'functional', 'storage', 'stack'},
    'semi': {'models', 'functional', 'storage'},
    'methods': {'semi', 'models', 'functional'},
    'looks': {'semi', 'functional', 'datasets', 'storage', 'register', 'commands', 'progress'},
    'engine': {'semi', 'models', 'functional', 'looks', 'datasets', 'splits', 'storage',
               'commands', 'progress', 'terminal'},
    'predict': {'semi', 'models', 'functional', 'looks', 'datasets', 'storage', 'register'},
    'stages': {'predict', 'datasets', 'functional', 'storage', 'register'},
    'doctor': {'semi', 'models', 'functional', 'engine', 'datasets', 'results', 'splits',
               'storage', 'register', 'commands', 'terminal'},
    'conversion': {'semi', 'models', 'functional', 'datasets', 'splits', 'storage', 'register'},
    'ladder': {'conversion', 'results', 'register', 'commands', 'storage', 'processes'},
    'register': {'stack', 'datasets', 'engine', 'methods', 'models'},
    'registry': set(),
}


def rooms_imported(path) -> set:
    """Rooms of the package that a file imports, wherever in it."""
    here, found = ('mmseg_esl', *path.relative_to(PACKAGE).parts[:-1]), set()
    for name in imported_modules(path):
        level = len(name) - len(name.lstrip('.'))
        if level:
            name = '.'.join((*here[:len(here) - level + 1], name.lstrip('.'))).rstrip('.')
        parts = name.split('.')
        if parts[0] == 'mmseg_esl' and len(parts) > 1:
            found.add(parts[1])
    return found & {room.stem for room in PACKAGE.iterdir()}


@pytest.mark.parametrize('path', sorted(p for p in PACKAGE.rglob('*.py') if p.parent != PACKAGE
                                        or p.stem in RULES),
                         ids=lambda path: str(path.relative_to(PACKAGE)))
def test_who_imports_whom(path):
    room = path.relative_to(PACKAGE).parts[0].partition('.')[0]
    assert rooms_imported(path) - {room} <= RULES[room], f'{room} may import {RULES[room]}'


def test_every_room_has_a_rule_and_the_rules_have_an_order():
    rooms = {p.name for p in PACKAGE.iterdir() if (p / '__init__.py').is_file()}
    others = {'commands', 'processes', 'progress', 'register', 'registry', 'terminal'}
    assert rooms | others == set(RULES)
    left = {room: set(after) for room, after in RULES.items()}
    left = {room: {a for a in after if a != 'register'} for room, after in left.items()}
    while left:  # a room that imports no other that is left can be taken out
        free = [room for room, after in left.items() if not after & set(left)]
        assert free, f'a circle: {left}'
        left = {room: after for room, after in left.items() if room not in free}


@pytest.mark.parametrize('path', sorted((PACKAGE / 'functional').glob('*.py')),
                         ids=lambda path: path.name)
def test_functional_is_plain_torch(path):
    for name in imported_modules(path):
        assert name.split('.')[0] not in MM, f'{path.name} imports {name}'
        assert not name.startswith('torch.distributed'), f'{path.name} imports {name}'


METHOD_NAMES = ('student2', 'projector', 'variant')
# models/ holds the projector itself; a part of a method may say whose part it is
OF_METHODS = ('methods', 'models')


def method_words() -> set:
    """Names of the methods, as configs spell them, from the files of methods/."""
    words = set()
    for path in (PACKAGE / 'methods').glob('*.py'):
        for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
            if isinstance(node, ast.ClassDef) and node.decorator_list and any(
                    'register_module' in ast.dump(d) for d in node.decorator_list):
                words.add(node.name)
    assert 'ESL' in words
    return words


SPELL_NONE = sorted([*(p for p in PACKAGE.rglob('*.py')
                       if p.relative_to(PACKAGE).parts[0] not in OF_METHODS),
                     *(PACKAGE.parent / 'tools').glob('*.py')])


@pytest.mark.parametrize('path', SPELL_NONE, ids=lambda path: str(path.relative_to(PACKAGE.parent)))
def test_nobody_else_spells_a_method(path):
    """In code: texts and names. What prose says of the paper is free, and so are old names."""
    tree, words = ast.parse(path.read_text(encoding='utf-8')), method_words()
    prose = {id(node.body[0].value) for node in ast.walk(tree) if isinstance(
        node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and node.body
        and isinstance(node.body[0], ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) \
                and id(node) not in prose:
            said = node.value
            assert said not in words, f'line {node.lineno} spells the method {said}'
        else:
            said = getattr(node, 'id', '') or getattr(node, 'attr', '')
        for word in METHOD_NAMES:
            assert word not in str(said), f'line {getattr(node, "lineno", "?")} spells {word}'


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
