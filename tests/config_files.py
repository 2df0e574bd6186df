"""The configs of the repository, read once each."""
from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import mmengine.config.utils as lookup
from mmengine.config import Config

ALL = Path(__file__).parents[1] / 'configs'
FOLDER = ALL / 'esl'
CONFIGS = sorted(path for path in ALL.rglob('*.py')
                 if '_base_' not in path.parts and path.name != 'method.py')
PARTITIONS = sorted((ALL / '_base_/partitions').glob('*.py'))

# Where a config inherits from mmseg, mmengine reads all of mmseg's index anew each time (half a
# second); the index does not change.
lookup.load = lru_cache(maxsize=None)(lookup.load)


def name(path) -> str:
    return path.relative_to(ALL).as_posix()


@lru_cache(maxsize=None)
def loaded(path) -> Config:
    """The config as it stands: copy it before changing it."""
    return Config.fromfile(str(path))


def transforms(pipeline):
    """Every transform of a pipeline, nested ones too."""
    for transform in pipeline:
        if isinstance(transform, (list, tuple)):
            yield from transforms(transform)
        else:
            yield transform
            yield from transforms(transform.get('transforms', ()))
