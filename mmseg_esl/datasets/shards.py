"""A hundred million unlabelled images: tar shards that are read at random, and never listed."""

from __future__ import annotations

import bisect
import hashlib
import os
import os.path as osp

import mmengine
from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS

from .files import Findings, is_local
from .tar_files import INDEX_SUFFIX, TarIndex


@DATASETS.register_module()
class UnlabeledShards(BaseSegDataset):
    """Unlabelled images within tar files, which need an index each (tools/dataset_converters/
    index_shards.py).

    As UnlabeledDataset in a SemiDataset, with the same batches, seeds and exact resume: any image
    is read where it lies, and no order of reading is kept anywhere. In memory are the names and
    sizes of the shards; the indexes stay on the disk, mapped, and are opened when a process first
    reads of their shard. Whether an image is labelled as well is not looked for: labelled ones are
    files, these are not.

    Args:
        ann_file: list of shards, one a line, relative to ``data_prefix['img_path']``; without one,
            every ``.tar`` in that folder, sorted. Shards on another file system (``s3://...`` as
            ``img_path``) need a list, and ``index_dir``.
        index_dir: local folder with the indexes, ``<name of the shard>.index.npy``; None: beside
            the shards.
        **kwargs: as mmseg's BaseSegDataset, without ``indices``.

    Raises:
        FileNotFoundError: no folder, list, shard or index.
        ValueError: no shard; an index of another file; two shards of one name.
    """

    unlisted = True  # its images stand in no list: see wrapped.infos

    def __init__(self, ann_file: str = '', index_dir: str | None = None, **kwargs) -> None:
        if kwargs.get('indices') is not None:
            raise ValueError('UnlabeledShards has no indices: name fewer shards in ann_file')
        prefix = kwargs.pop('data_prefix', None) or {}
        self.index_dir = index_dir
        super().__init__(ann_file=ann_file, data_prefix=dict(img_path=prefix.get('img_path') or ''),
                         **kwargs)

    def full_init(self) -> None:
        """Find the shards and how many images each holds."""
        if self._fully_initialized:
            return
        folder = self.data_prefix['img_path']
        self.shards = [osp.join(folder, name) for name in self._names(folder)]
        self._open: dict[int, TarIndex] = {}
        self.ends, self.tar_sizes = [], []
        stale, total = Findings(), 0
        for shard in self.shards:
            index = TarIndex(self._index_of(shard))
            total += len(index)
            self.ends.append(total)
            self.tar_sizes.append(index.tar_size)
            if is_local(shard) and osp.getsize(shard) != index.tar_size:
                stale.add(shard)
        if stale:
            raise ValueError(f'UnlabeledShards: {stale.count} shards have another size than their '
                             f'index says: {stale}. Run index_shards.py with --again')
        self._fully_initialized = True

    def _names(self, folder: str) -> list[str]:
        if self.ann_file:
            if is_local(self.ann_file) and not osp.isfile(self.ann_file):
                raise FileNotFoundError(f"UnlabeledShards: the list of shards '{self.ann_file}' "
                                        'does not exist. Set ann_file, or leave it out')
            lines = (line.strip() for line in mmengine.list_from_file(
                self.ann_file, encoding='utf-8-sig', backend_args=self.backend_args))
            names = [line for line in lines if line and not line.startswith('#')]
        elif is_local(folder):
            if not osp.isdir(folder):
                raise FileNotFoundError(f"UnlabeledShards: the folder '{folder}' does not exist. "
                                        'Set data_root and data_prefix=dict(img_path=...)')
            names = sorted(name for name in os.listdir(folder) if name.endswith('.tar'))
        else:
            raise ValueError(f"UnlabeledShards: '{folder}' is not listed: name its shards in "
                             'ann_file')
        if not names:
            raise ValueError(f"UnlabeledShards: no shard (*.tar) in '{self.ann_file or folder}'")
        if len(set(map(osp.basename, names) if self.index_dir else names)) < len(names):
            raise ValueError('UnlabeledShards: two shards have one name: their indexes would be '
                             'one')
        return names

    def _index_of(self, shard: str) -> str:
        folder = osp.dirname(shard) if self.index_dir is None else self.index_dir
        return osp.join(folder, osp.basename(shard) + INDEX_SUFFIX)

    def __len__(self) -> int:
        self.full_init()
        return self.ends[-1]

    def get_data_info(self, idx: int) -> dict:
        """What BaseSegDataset says of an image; its path is one within a tar."""
        self.full_init()
        if not -len(self) <= idx < len(self):
            raise IndexError(f'UnlabeledShards: index {idx} is outside its {len(self)} images')
        idx %= len(self)
        place = bisect.bisect_right(self.ends, idx)
        if place not in self._open:
            self._open[place] = TarIndex(self._index_of(self.shards[place]))
        path = self._open[place].image(self.shards[place],
                                       idx - (self.ends[place - 1] if place else 0))
        return dict(img_path=path, label_map=None, reduce_zero_label=False, seg_fields=[],
                    sample_idx=idx)

    def checksum(self) -> str:
        """Of the shards' names, sizes and numbers of images, for a run that is resumed."""
        lines = (f'{osp.basename(shard)} {size} {end}\n' for shard, size, end in zip(
            self.shards, self.tar_sizes, self.ends))
        return hashlib.sha256(''.join(lines).encode('utf-8', 'surrogateescape')).hexdigest()

    def __getstate__(self) -> dict:
        return {**self.__dict__, '_open': {}}  # a spawned worker maps its own
