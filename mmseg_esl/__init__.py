"""Semi-supervised semantic segmentation as a plugin for mmsegmentation.

Imports nothing: neither torch nor any mm* package, so that ``mmseg_esl.functional`` and the
version are usable anywhere; ``load``, ``convert`` and ``compare`` (api.py) are imported when they
are asked for. Configs register the components with
``custom_imports = dict(imports=['mmseg_esl.register'], allow_failed_imports=False)``.
"""

__version__ = '0.1.0'

__all__ = ['__version__', 'compare', 'convert', 'load']


def __getattr__(name: str):
    if name in ('compare', 'convert', 'load'):
        from . import api
        return getattr(api, name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
