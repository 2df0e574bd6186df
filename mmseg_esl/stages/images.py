"""The unlabelled images of a data config, by name."""
from __future__ import annotations

import os.path as osp
from dataclasses import dataclass
from pathlib import Path

from mmseg.registry import DATASETS

from ..datasets.wrapped import infos
from ..storage.atomic import atomic_file


@dataclass(frozen=True)
class Images:
    """Unlabelled images. Names are paths relative to ``folder``, in the order of the list."""
    folder: str
    names: tuple

    def path(self, name: str) -> str:
        return osp.join(self.folder, name)


def unlabeled_images(dataset_cfg) -> tuple[Images, dict, int]:
    """Of a SemiDataset's config: unlabelled images; the labelled set's ``metainfo`` and size.

    Raises:
        ValueError: fewer than two images, or what SemiDataset says.
    """
    dataset = DATASETS.build(dataset_cfg)
    found = [(leaf, info['img_path']) for leaf, info in infos(dataset.unlabeled)]
    if len(found) < 2:
        raise ValueError(f'the unlabelled list holds {len(found)} image: stages need two or more, '
                         'as files (UnlabeledDataset, no shards)')
    folders = {leaf.data_prefix['img_path'] or osp.dirname(path) for leaf, path in found}
    folder = osp.commonpath(folders)
    names = tuple(Path(osp.relpath(path, folder)).as_posix() for _, path in found)
    # the masks have their names, and no path may lead out of their folder
    if any(name.startswith('../') for name in names):
        raise ValueError(f'unlabelled images lie outside {folder}: name their folder in '
                         'data_prefix=dict(img_path=...)')
    return Images(folder, names), dataset.labeled.metainfo, dataset.num_labeled


def write_list(path, names) -> Path:
    with atomic_file(path) as file:
        file.write(''.join(f'{name}\n' for name in names).encode())
    return Path(path)


def read_list(path) -> list[str]:
    return Path(path).read_text(encoding='utf-8').splitlines()
