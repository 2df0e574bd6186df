"""Folders as dicts, to compare them."""
from __future__ import annotations

from pathlib import Path


def tree(folder: Path) -> dict:
    """path -> (content, time of writing) of every file below a folder."""
    return {path.relative_to(folder).as_posix(): (path.read_bytes(), path.stat().st_mtime_ns)
            for path in folder.rglob('*') if path.is_file()}


def contents(folder: Path) -> dict:
    """path -> content."""
    return {name: data for name, (data, _) in tree(folder).items()}
