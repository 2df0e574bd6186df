"""Images whose masks a network predicted: read through the file that says so, or not at all."""
from __future__ import annotations

import json
import os.path as osp
from pathlib import Path

from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS

from ..storage.atomic import atomic_file

KEYS = ('what', 'complete', 'image_folder', 'masks')


@DATASETS.register_module()
class PseudoLabeledDataset(BaseSegDataset):
    """The images of a record of pseudo labels, with these as their label maps.

    A record ``pseudo_labels.json`` lies beside the folder ``pseudo_labels`` of its masks, PNGs of
    class indices: label reduction and class maps of the labelled set do not apply to them.
    ProtocolHook tells these images from labelled ones.

    Args:
        ann_file: the record. Folders and suffixes are its own.
        **kwargs: as BaseSegDataset's (``metainfo``, ``pipeline``, ...).

    Attributes:
        pseudo_labels: what the record says of itself, once the list is loaded.

    Raises:
        ValueError: the file is no such record, or its masks are not all there yet.
    """

    masks_as_loaded = True  # turned images were labelled turned

    def load_data_list(self) -> list[dict]:
        record = read_record(self.ann_file)
        if not record['complete']:
            raise ValueError(f'{self.ann_file}: not all images have their pseudo labels. Let the '
                             'stage that labels go to its end')
        self.pseudo_labels = record['what']
        images, masks = record['image_folder'], str(mask_folder(self.ann_file))
        self.data_prefix = dict(img_path=images, seg_map_path=masks)
        return [dict(img_path=osp.join(images, image), seg_map_path=osp.join(masks, mask),
                     label_map=None, reduce_zero_label=False, seg_fields=[])
                for image, mask in record['masks'].items()]


def mask_folder(path) -> Path:
    """Where the masks of a record are."""
    return Path(path).with_suffix('')


def read_record(path) -> dict:
    """A record of pseudo labels; raises ValueError for any other file."""
    try:
        if not Path(path).is_file():  # a pipe would be waited for
            raise OSError('there is no such file' if not Path(path).exists() else 'no regular file')
        record = json.loads(Path(path).read_text(encoding='utf-8'))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f'{path} is no record of pseudo labels ({error}): name the '
                         'pseudo_labels.json beside their folder') from error
    if not isinstance(record, dict) or any(key not in record for key in KEYS):
        raise ValueError(f'{path} is no record of pseudo labels: it needs {", ".join(KEYS)}')
    if not isinstance(record['masks'], dict) or not all(
            isinstance(name, str) for name in (record['image_folder'], *record['masks'].values())):
        raise ValueError(f'{path} is no record of pseudo labels: its masks are no names of files')
    return record


def write_record(path, record: dict) -> None:
    with atomic_file(path) as file:
        file.write((json.dumps(record, indent=1) + '\n').encode())
