"""Running the project's commands from tests, and reading what they leave."""
from __future__ import annotations

import contextlib
import io
import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from mmengine.logging import MMLogger
from tiny import forget_visualizers

ROOT = Path(__file__).parents[2]
TOOLS = ROOT / 'tools'


def run(*command, folder=ROOT, **env) -> str:
    """Run a command as a user would; returns its output, and shows it if the command fails."""
    path = os.pathsep.join([os.path.dirname(sys.executable), os.environ.get('PATH', '')])
    extra = {key: str(value) for key, value in env.items()}
    done = subprocess.run(
        [str(part) for part in command], cwd=folder, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, env={**os.environ, 'OMP_NUM_THREADS': '1', 'PATH': path, **extra})
    assert done.returncode == 0, f'{command} exits with {done.returncode}:\n{done.stdout[-6000:]}'
    return done.stdout


def tool(monkeypatch, name, *args) -> None:
    """``python tools/<name> <args>`` in this process, which has imported everything already."""
    monkeypatch.syspath_prepend(str(TOOLS))
    monkeypatch.setattr(sys, 'argv', [name, *(str(arg) for arg in args)])
    monkeypatch.setenv('LOCAL_RANK', '0')
    runpy.run_path(str(TOOLS / name), run_name='__main__')


def inside(name, *args, status=0) -> str:
    """The same, with its output and exit status; an error that it does not say is raised."""
    said, found = io.StringIO(), 0
    forget_visualizers()
    # two runs of one config within a second have one name: the second spoke into the first's output
    for logger in [each for each in MMLogger._instance_dict if each != 'mmengine']:
        del MMLogger._instance_dict[logger]
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(said), \
            contextlib.redirect_stderr(said):
        try:
            tool(patch, name, *args)
        except SystemExit as end:
            found = end.code or 0
    if isinstance(found, str):  # what Python itself prints, and exits with 1
        said.write(found)
        found = 1
    assert found == status, f'{name} exits with {found}:\n{said.getvalue()[-6000:]}'
    return said.getvalue()


def logged(work_dir) -> list:
    """Everything a training run logged: dicts in the order of time, over all its starts."""
    files = sorted(Path(work_dir).glob('*/vis_data/scalars.json'))
    assert files, f'{work_dir} holds no log'
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def metrics_of(work_dir) -> dict:
    """The metrics that the one test run in ``work_dir`` wrote."""
    files = list(Path(work_dir).glob('*/*.json'))
    assert len(files) == 1, f'{work_dir} holds {len(files)} results'
    return json.loads(files[0].read_text())
