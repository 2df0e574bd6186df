"""From a supervised config to an ESL config that inherits it; see ``tools/convert_config.py``."""
from .config import Refused, convert

__all__ = ['Refused', 'convert']
