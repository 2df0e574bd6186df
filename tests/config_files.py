"""The configs of the repository, read once each."""
from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

from mmengine.config import Config

ALL = Path(__file__).parents[1] / 'configs'
FOLDER = ALL / 'esl'
CONFIGS = sorted(path for path in ALL.rglob('*.py')
                 if '_base_' not in path.parts and path.name != 'method.py')
PARTITIONS = sorted((ALL / '_base_/partitions').glob('*.py'))


def name(path) -> str:
    return path.relative_to(ALL).as_posix()


@lru_cache(maxsize=None)
def loaded(path) -> Config:
    """The config as it stands: copy it before changing it."""
    return Config.fromfile(str(path))


def composed(folder, network, partition='voc-classic_1-16', method=''):
    """The lines of docs/configs.md for another network, with other names; and a method around."""
    page = (ALL.parent / 'docs/configs.md').read_text(encoding='utf-8')
    text = re.search(r'```python\n# my_data.py\n(.*?)```', page, re.S).group(1)
    text = text.replace('path/to/configs', ALL.as_posix()).replace(
        'voc-classic_1-16', partition).replace('dinov2-s14_dpt', network)
    (folder / 'my_data.py').write_text(text)
    if not method:
        return Config.fromfile(str(folder / 'my_data.py'))
    (folder / 'mine.py').write_text(
        f"_base_ = ['my_data.py', '{(ALL / method).as_posix()}/method.py']\n"
        'model = dict(_delete_=True, segmentor=_base_.model, **_base_.method)\n'
        'default_hooks = _base_.method_hooks\n')
    return Config.fromfile(str(folder / 'mine.py'))


def transforms(pipeline):
    """Every transform of a pipeline, nested ones too."""
    for transform in pipeline:
        if isinstance(transform, (list, tuple)):
            yield from transforms(transform)
        else:
            yield transform
            yield from transforms(transform.get('transforms', ()))
