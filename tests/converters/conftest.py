"""Miniatures of the archives, and the converters as a user calls them."""
from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[2] / 'tools/dataset_converters'
sys.path.insert(0, str(TOOLS))


def start(tool: str, *args):
    return subprocess.Popen([sys.executable, str(TOOLS / f'{tool}.py'), *map(str, args)],
                            text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.fixture
def call():
    """Run a converter to its end; its output."""
    def run(tool, *args, status=0):
        process = start(tool, *args)
        out, err = process.communicate(timeout=100)
        assert process.returncode == status, out + err
        return out + err
    return run


@pytest.fixture
def interrupt():
    """Start a converter and send it a signal once ``number`` files of a pattern are there."""
    def run(signal, number, folder, pattern, tool, *args):
        process = start(tool, *args)
        end = time.monotonic() + 60
        while len(list(folder.glob(pattern))) < number and process.poll() is None \
                and time.monotonic() < end:
            time.sleep(0.001)
        process.send_signal(signal)
        out, err = process.communicate(timeout=60)
        return process.returncode, out + err
    return run
