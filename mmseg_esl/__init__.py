"""Semi-supervised semantic segmentation as a plugin for mmsegmentation.

Imports nothing: neither torch nor any mm* package, so that ``mmseg_esl.functional`` and the
version are usable anywhere. Configs register the components with
``custom_imports = dict(imports=['mmseg_esl.register'], allow_failed_imports=False)``.
"""

__version__ = '0.1.0'

__all__ = ['__version__']
