"""Names of figures that every backend of mmengine's visualiser can hold.

MLflow refuses all but letters, digits and ``_-./ :``, TensorBoard changes what is not one of
``-/.`` or a word character, and where a backend keeps its figures as files (MLflow) or as a tree
(Neptune), no figure may be the folder of another: ``anchors`` and ``anchors/sky`` exclude each
other.
"""
from __future__ import annotations

import re

PER_CLASS = 'class'  # the folder of what is logged for each class: class/anchors/sky
ODD = re.compile(r'[^\w.-]|^\.')  # a name of dots alone would be a folder
LONGEST = 60  # characters of a class: a file name has 255 bytes, MLflow's whole name 250


def legal(name: str) -> str:
    """A figure's name, ``/`` and all, in characters that every backend holds."""
    return '/'.join(ODD.sub('_', part) or '_' for part in str(name).split('/'))


def class_names(classes) -> list[str]:
    """A name for each class, that may stand between two ``/``.

    What no backend holds becomes ``_``. Names that would be the same then, or in a file system
    that does not tell capitals, get their class's index.
    """
    names = [(ODD.sub('_', str(c)) or '_')[:LONGEST] for c in classes]
    lower = [name.lower() for name in names]
    return [name if lower.count(name.lower()) == 1 else f'{name}-{index}'
            for index, name in enumerate(names)]


def per_class(figure: str, classes) -> list[str]:
    """``['class/anchors/ground', 'class/anchors/sky', ...]``."""
    return [f'{PER_CLASS}/{legal(figure)}/{c}' for c in class_names(classes)]
