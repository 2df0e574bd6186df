"""Tables of finished runs; nothing of mm* is needed."""

from .compare import Comparison, compare
from .paper import read_figures
from .published import read_published
from .run import Run, read_run
from .table import Table, group, make_table
from .write import classes_to_csv, to_csv, to_markdown

__all__ = [
    'Comparison', 'Run', 'Table', 'classes_to_csv', 'compare', 'group', 'make_table',
    'read_figures', 'read_published', 'read_run', 'to_csv', 'to_markdown'
]
