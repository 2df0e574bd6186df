"""Several methods by one recipe; ``tools/ladder.py``."""
from .. import register  # noqa: F401 - mends the stack, before what follows imports it
from .limit import Limit
from .rungs import Row, Rung, finish, table

__all__ = ['Limit', 'Row', 'Rung', 'finish', 'table']
