"""Import every registered component: what a config's ``custom_imports`` names.

The compatibility layer goes first: without it ``import mmseg.models`` fails on mmcv-lite.
"""

from . import stack

stack.install()

from . import datasets, engine, methods, models  # noqa: E402 - what it mends comes after it

__all__ = ['datasets', 'engine', 'methods', 'models']
