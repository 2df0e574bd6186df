"""One training run as one HTML page; nothing of mm* is needed."""

from .page import make_page

__all__ = ['make_page']
