"""The one command line: what it lists, runs and refuses."""
import argparse
import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mmseg_esl import __version__, commands, stack
from mmseg_esl.conversion import methods

ROOT = Path(__file__).parents[1]


def call(*args, cwd=None):
    # a clone that is not installed is found by its folder
    return subprocess.run([sys.executable, '-m', 'mmseg_esl', *args], capture_output=True,
                          text=True, cwd=cwd or ROOT)


def test_every_command_has_a_file_and_every_file_a_command():
    files = {path.name for path in (ROOT / 'tools').glob('*.py')}
    named = {file for file, _ in commands.COMMANDS.values() if file}
    assert named <= files
    assert files - named == {'cli_common.py', 'st_plus_plus.py'}


# Each of them in one process, as a file or as a command, with what --help had imported by then.
HELP = """
import contextlib, io, runpy, sys
from pathlib import Path
from mmseg_esl.commands import COMMANDS, main

def said(run, *args):
    sys.argv = [str(args[0]), '--help']
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.suppress(SystemExit):
        run()
    heavy = {HEAVY} & set(sys.modules)
    print(args[0], heavy or 'nothing', repr(out.getvalue()))

sys.path.insert(0, 'tools')
for path in FILES:
    said(lambda: runpy.run_path(path, run_name='__main__'), path)
said(lambda: main(['--help']), 'mmseg-esl')
for name in COMMANDS:
    said(lambda: main([name, '--help']), name)
"""
FILES = sorted(str(path.relative_to(ROOT)) for path in (ROOT / 'tools').glob('*.py'))
HEAVY = {'torch', 'numpy', 'mmengine', 'mmcv', 'mmseg', 'matplotlib', 'scipy'}


def test_help_imports_nothing_heavy():
    """It takes 0.1 s then, where those would take five."""
    code = HELP.replace('FILES', repr(FILES)).replace('{HEAVY}', repr(HEAVY))
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    found = {line.split(' ')[0]: line for line in done.stdout.splitlines()}
    assert set(found) == {*FILES, 'mmseg-esl', *commands.COMMANDS}
    for name, line in found.items():
        assert line.split(' ')[1] == 'nothing', line
        assert 'usage: ' in line or 'cli_common' in name, line
    assert all(f'  {name} ' in found['mmseg-esl'] for name in commands.COMMANDS)
    # examples in the help can be typed where it is read
    assert 'python tools/compare.py work_dirs' in found['tools/compare.py']
    assert 'mmseg-esl compare work_dirs' in found['compare']
    assert 'mmseg-esl methods lists' in ' '.join(found['ladder'].replace('\\n', ' ').split())


MISSING = """
import contextlib, io, runpy, sys

class Missing:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.split('.')[0] in ('torch', 'mmengine', 'mmcv', 'mmseg'):
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)

sys.meta_path.insert(0, Missing)
sys.path.insert(0, 'tools')
for path, args in CALLS.items():
    sys.argv, err, status = [path, *args], io.StringIO(), None
    with contextlib.redirect_stderr(err):
        try:
            runpy.run_path(path, run_name='__main__')
        except SystemExit as end:
            status = end.code
    print(repr((path, status, err.getvalue())))
"""
CALLS = {
    'train.py': ['c.py'], 'test.py': ['c.py', 'a.pth'], 'doctor.py': ['c.py'],
    'convert_config.py': ['c.py', '--unlabeled', 'photos', '--out', 'no_such.py'],
    'predict.py': ['c.py', 'a.pth', 'a.png'], 'export_segmentor.py': ['a.pth', 'b.pth'],
    'export_onnx.py': ['c.py', 'a.pth', 'b.onnx', '--dynamic'], 'visualize.py': ['c.py', 'a.pth'],
    'ladder.py': ['--data', 'c.py'], 'cost.py': ['c.py'], 'methods.py': [],
    'st_plus_plus.py': ['c.py', '--work-dir', 'w', '--cfg-options', 'a=1'],
    'demo/run.py': ['--quick'],
}


def test_without_the_stack_each_tool_says_what_to_install():
    calls = {f'tools/{name}': args for name, args in CALLS.items()}
    done = subprocess.run([sys.executable, '-c', MISSING.replace('CALLS', repr(calls))],
                          capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    found = {path: rest for path, *rest in map(ast.literal_eval, done.stdout.splitlines())}
    assert set(found) == set(calls)
    for path, (status, said) in found.items():
        first, *rest = said.splitlines()
        assert first == f'{Path(path).name}: mmseg_esl cannot run on this installation:', path
        assert status == (2 if path in ('tools/doctor.py', 'tools/predict.py') else 1), path
        for name in ('torch', 'mmengine', 'mmcv', 'mmseg'):
            assert any(line.startswith(f'  - {name} is not installed: pip install') for line in
                       rest), said
        assert "  pip install 'torch>=2.0' mmengine mmcv-lite==2.1.0" in said
        assert rest[-1] == stack.PAGE and (ROOT / stack.PAGE.split()[0]).is_file()


def test_what_reads_results_needs_none_of_the_stack():
    """compare, summarize, report and splits work on a laptop; what is missing there is named."""
    calls = {'tools/compare.py': ['a', 'b'], 'tools/summarize.py': ['a'], 'tools/report.py': ['a']}
    code = MISSING.replace("'mmseg')", "'mmseg', 'jinja2')").replace('CALLS', repr(calls))
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, cwd=ROOT)
    compare, summarize, report = map(ast.literal_eval, done.stdout.splitlines())
    assert "compare.py: a: no '*/vis_data" in compare[1]
    assert "summarize.py: a: no '*/vis_data" in summarize[1]
    assert report[1].startswith(
        "report.py: jinja2 is not installed: pip install 'mmseg_esl[report]'")


def test_options_that_are_no_key_value_are_named(monkeypatch, capsys):
    import cli_common
    parser = argparse.ArgumentParser(prog='train.py')
    cli_common.add_cfg_options(parser)
    assert parser.parse_args(['--cfg-options', 'a.b=[1,2]', 'c=x']).cfg_options == {
        'a.b': [1, 2], 'c': 'x'}
    with pytest.raises(SystemExit):
        parser.parse_args(['--cfg-options', 'a=[1,', '2]'])
    assert "--cfg-options: '2]' is no KEY=VALUE" in capsys.readouterr().err


def test_it_runs_the_file_with_the_rest_and_its_exit_status():
    done = call('splits', 'verify', '--help')
    assert done.returncode == 0 and 'python -m mmseg_esl splits verify' in done.stdout
    assert call('--version').stdout == f'{__version__}\n'


@pytest.mark.parametrize('name', [name for name, (file, _) in commands.COMMANDS.items() if file])
def test_every_command_begins(name, monkeypatch, capsys):
    monkeypatch.setattr(sys, 'path', list(sys.path))
    monkeypatch.setattr(sys, 'argv', [])
    monkeypatch.setenv(commands.CALLED, name)
    with pytest.raises(SystemExit) as ended:
        commands.main([name, '--help'])
    assert ended.value.code == 0 and f'mmseg-esl {name}' in capsys.readouterr().out


def test_what_there_is_not_is_named():
    done = call('trian')
    assert done.returncode == 2
    assert "there is no command 'trian'" in done.stderr and 'train ' in done.stderr


def test_methods_are_listed():
    listed = [line.split()[0] for line in call('methods').stdout.splitlines()]
    assert listed == methods()


@pytest.mark.parametrize('called, wanted, text', [
    (None, 'python tools/doctor.py', 'python tools/train.py c.py; python tools/demo/run.py'),
    ('mmseg-esl', 'mmseg-esl doctor', 'mmseg-esl train c.py; python tools/demo/run.py'),
    ('python -m mmseg_esl', 'python -m mmseg_esl doctor',
     'python -m mmseg_esl train c.py; python tools/demo/run.py')])
def test_messages_name_what_exists(monkeypatch, called, wanted, text):
    monkeypatch.chdir(ROOT)
    monkeypatch.delenv(commands.CALLED, raising=False)
    if called:
        monkeypatch.setenv(commands.CALLED, called)
    assert commands.command('doctor') == wanted
    assert commands.here('python tools/train.py c.py; python tools/demo/run.py') == text
    monkeypatch.chdir(ROOT / 'docs')
    assert commands.tool('dist_train.sh') == '../tools/dist_train.sh'


@pytest.mark.parametrize('called, argv, wanted', [
    (None, ['tools/train.py', 'a b.py'], "tools/train.py 'a b.py'"),
    ('mmseg-esl', ['mmseg-esl train', 'a b.py'], "mmseg-esl train 'a b.py'"),
    ('mmseg-esl', ['my tools/train.py', 'a.py'], "'my tools/train.py' a.py")])
def test_a_run_keeps_the_command_as_it_was_typed(monkeypatch, called, argv, wanted):
    monkeypatch.delenv(commands.CALLED, raising=False)
    if called:
        monkeypatch.setenv(commands.CALLED, called)
    monkeypatch.setattr(sys, 'argv', argv)
    assert commands.command_line() == wanted


NAMES = '|'.join(Path(file).stem for file, _ in commands.COMMANDS.values())


@pytest.mark.parametrize('path', sorted([*(ROOT / 'mmseg_esl').rglob('*.py'),
                                         *(ROOT / 'tools').glob('*.py')]),
                         ids=lambda path: str(path.relative_to(ROOT)))
def test_no_message_spells_a_tool(path):
    """What users read asks ``command`` or ``here``; docstrings are read in the source."""
    tree = ast.parse(path.read_text(encoding='utf-8'))
    prose = {id(node.body[0].value) for node in ast.walk(tree) if isinstance(
        node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and node.body
        and isinstance(node.body[0], ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) \
                and id(node) not in prose and not re.fullmatch(r'[\w/]+\.py', node.value):
            assert not re.search(
                rf'\b({NAMES})\.py\b|\bmmseg-esl [a-z]|python tools/\w', node.value), \
                f'line {node.lineno}: {node.value}'
    source = path.read_text(encoding='utf-8')
    if '=__doc__' in source:  # the help of a tool
        assert 'python tools/' not in ast.get_docstring(tree)
