"""From a supervised config to one that wraps it in a method; see ``tools/convert_config.py``."""
from .config import DEFAULT, Refused, convert, methods

__all__ = ['DEFAULT', 'Refused', 'convert', 'methods']
