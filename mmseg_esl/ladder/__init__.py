"""Several methods by one recipe; ``tools/ladder.py``."""
from .. import register  # noqa: F401 - mends the stack, before what follows imports it
from .rungs import Limit, Row, Rung, finish, table

__all__ = ['Limit', 'Row', 'Rung', 'finish', 'table']
