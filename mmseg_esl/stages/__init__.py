"""Methods that train in stages, with files of labels between them and no second network."""
from .. import register  # noqa: F401 - mends the stack, before what follows imports it
from .record import run_stages
from .st_plus_plus import Recipe, StPlusPlus

__all__ = ['Recipe', 'StPlusPlus', 'run_stages']
