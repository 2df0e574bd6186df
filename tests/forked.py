"""Ranks and commands as forks of this process, which has imported everything already.

A command takes four seconds of CPU for its imports alone, torchrun and two ranks take ten. That
both work as a user starts them is tested in tests/integration: test_interrupted.py has torchrun.
"""
from __future__ import annotations

import gc
import json
import os
import runpy
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path

from tiny import forget_visualizers
from torch.distributed import TCPStore


def on_ranks(work, *args, ranks: int = 2, timeout: float = 300) -> str:
    """Call ``work(*args)`` on each rank, with the environment that torchrun sets.

    Returns:
        All that the ranks printed, rank by rank.

    Raises:
        TimeoutError: somebody waits for somebody.
        RuntimeError: a rank failed; holds what the ranks printed.
    """
    store = TCPStore('127.0.0.1', 0, is_master=True, wait_for_workers=False)
    env = dict(MASTER_ADDR='127.0.0.1', MASTER_PORT=store.port, WORLD_SIZE=ranks,
               LOCAL_WORLD_SIZE=ranks, TORCHELASTIC_USE_AGENT_STORE=True)
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / str(rank) for rank in range(ranks)]
        children = []
        try:
            for rank, file in enumerate(files):
                child = os.fork()
                if not child:
                    _be(dict(env, RANK=rank, LOCAL_RANK=rank), file, work, args)
                children.append(child)
            failed = _wait(children, timeout)
        finally:
            for child in children:  # those that are left
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
        said = ''.join(file.read_text() for file in files if file.exists())
    if failed:
        raise RuntimeError(f'{work.__module__}.{work.__name__}{args} failed:\n{said[-6000:]}')
    return said


def command(script, *args, folder, file: Path, path=()) -> int:
    """Exit status of ``python SCRIPT ARGS`` in ``folder``, which appends what it says to ``file``.

    Args:
        path: what PYTHONPATH would name.
    """
    child = os.fork()
    if not child:
        _be({}, file, run_script, (script, args, folder, path))
    _, status = os.waitpid(child, 0)
    return os.WEXITSTATUS(status) if os.WIFEXITED(status) else -os.WTERMSIG(status)


def run_script(script, args, folder, path=()) -> None:
    """``python SCRIPT ARGS`` within this process, for one that is to end afterwards."""
    os.chdir(folder)
    sys.argv = [str(script), *map(str, args)]
    sys.path[:0] = [os.path.dirname(sys.argv[0]), *map(str, path)]
    forget_visualizers()
    runpy.run_path(sys.argv[0], run_name='__main__')


def result(said: str) -> dict:
    """What rank 0 printed as JSON after 'RESULT '."""
    line, = (line for line in said.splitlines() if line.startswith('RESULT '))
    return json.loads(line[len('RESULT '):])


def _be(env: dict, file: Path, work, args) -> None:
    status = 1
    try:
        gc.freeze()  # see conftest.py
        os.environ.update({key: str(value) for key, value in env.items()})
        sys.stdout = sys.stderr = open(file, 'a', buffering=1)
        for number in (1, 2):
            os.dup2(sys.stdout.fileno(), number)
        work(*args)
        status = 0
    except SystemExit as end:
        status = end.code or 0
        if isinstance(status, str):  # what Python itself prints, and exits with 1
            print(status)
            status = 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(status)  # nothing of the process that was forked is to be cleaned up


def _wait(children: list, timeout: float) -> bool:
    """Whether one fails, which is not waited for by others; takes out those that have ended."""
    end = time.monotonic() + timeout
    while children:
        for child in list(children):
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                children.remove(child)
            if status:
                return True
        if time.monotonic() > end:
            raise TimeoutError(f'{len(children)} ranks have not ended after {timeout} s')
        time.sleep(0.01)
    return False
