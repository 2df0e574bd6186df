"""One training run as one HTML page; of mm* only mmengine is needed, to read configs."""

from .page import make_page

__all__ = ['make_page']
