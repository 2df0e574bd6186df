"""From a supervised config to one that wraps it in a method; see ``tools/convert_config.py``."""
from .config import DEFAULT, Method, Refused, convert, methods

__all__ = ['DEFAULT', 'Method', 'Refused', 'convert', 'methods']
