"""Semi-supervised semantic segmentation as a plugin for mmsegmentation.

Imports nothing: neither torch nor any mm* package, so that ``mmseg_esl.functional`` and the
version are usable anywhere; ``load``, ``convert`` and ``compare`` (api.py) are imported when they
are asked for. Configs register the components with
``custom_imports = dict(imports=['mmseg_esl.register'], allow_failed_imports=False)``.
"""

__version__ = '0.1.0'

__all__ = ['__version__', 'compare', 'convert', 'load']

_API = ('compare', 'load')


def convert(*args, **kwargs):
    """See :func:`mmseg_esl.api.convert`."""
    # by name: a room of the package is called so too, and would hide it once imported
    from . import api
    return api.convert(*args, **kwargs)


def __getattr__(name: str):
    if name in _API:
        from . import api
        return getattr(api, name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
