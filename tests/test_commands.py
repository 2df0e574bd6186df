"""The one command line: what it lists, runs and refuses."""
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mmseg_esl import __version__, commands
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


def test_help_is_quick_and_needs_nothing():
    began = time.perf_counter()
    done = subprocess.run([sys.executable, '-X', 'importtime', '-m', 'mmseg_esl', '--help'],
                          capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0 and time.perf_counter() - began < 5
    assert all(name in done.stdout for name in commands.COMMANDS)
    assert not any(f' {name}\n' in done.stderr for name in ('torch', 'numpy', 'mmengine'))


def test_it_runs_the_file_with_the_rest_and_its_exit_status():
    done = call('splits', 'verify', '--help')
    assert done.returncode == 0 and 'mmseg-esl splits verify' in done.stdout
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


@pytest.mark.parametrize('inside, wanted', [(None, 'python tools/doctor.py'),
                                            ('doctor', 'mmseg-esl doctor')])
def test_messages_name_what_exists(monkeypatch, inside, wanted):
    monkeypatch.chdir(ROOT)
    monkeypatch.delenv(commands.CALLED, raising=False)
    if inside:
        monkeypatch.setenv(commands.CALLED, inside)
    assert commands.command('doctor') == wanted
