"""From the path of an image to its class indices, by mmseg's pipeline and test_step."""
from __future__ import annotations

import copy

import mmcv
import numpy as np
import torch
from mmengine.config import ConfigDict
from mmengine.dataset import Compose
from mmseg.models.segmentors import SegTTAModel
from mmseg.registry import MODELS

from ..datasets.checks import turns
from ..looks.names import dataset_config
from .tiles import tiled_classes

SCALES = (0.75, 1.0, 1.25)  # our choice
# what needs labels, and the crop that only evaluation makes: a mask is of the whole image
LEFT_OUT = ('LoadAnnotations', 'LoadEmptyAnnotations', 'EvaluatedCenterCrop')


class Masker:
    """Predicts masks with a segmentor.

    Args:
        segmentor: from :func:`load_segmentor`.
        tile: (height, width) of sliding windows, or None for what ``test_cfg`` says. They are cut
            from the image as the pipeline gives it.
        overlap: of neighbouring windows in pixels; None: a third of the shorter side.
        tta: average over the config's ``tta_pipeline``; without one, over both flips of SCALES.
            Together with ``tile`` by mmseg's slide mode, which keeps all logits.
        batch: windows in one forward, with ``tile``.

    Raises:
        ValueError: an overlap that is not below the tile, or a segmentor that has no windows.
    """

    def __init__(self, segmentor, tile=None, overlap: int | None = None, tta: bool = False,
                 batch: int = 1) -> None:
        self.segmentor, self.tile, self.batch = segmentor, tile, batch
        self.tta = None
        if tile is not None:
            self._set_tile(tile, overlap)
        steps = pipeline_of(segmentor.cfg)
        if tta:
            steps = without_labels(segmentor.cfg.get('tta_pipeline') or default_tta(steps))
            model = segmentor.cfg.get('tta_model') or dict(type='SegTTAModel')
            self.tta = MODELS.build(dict(model, module=segmentor))
            if not isinstance(self.tta, SegTTAModel):
                raise ValueError(f'tta_model={model} is no SegTTAModel')
        self.pipeline = Compose(steps)

    def _set_tile(self, tile, overlap) -> None:
        overlap = min(tile) // 3 if overlap is None else overlap
        if min(tile) < 1 or not 0 <= overlap < min(tile):
            raise ValueError(f'--tile {tile[0]} {tile[1]} --overlap {overlap}: the overlap must '
                             'be at least 0 and below both sides of the tile')
        if not hasattr(self.segmentor, 'encode_decode'):
            raise ValueError(f'{type(self.segmentor).__name__} has no encode_decode: leave --tile '
                             'out')
        self.stride = tuple(side - overlap for side in tile)
        # for test-time augmentation, which goes through mmseg's own code
        self.segmentor.test_cfg = ConfigDict(
            self.segmentor.test_cfg, mode='slide', crop_size=tuple(tile), stride=self.stride)

    def prepare(self, path: str) -> dict:
        """What the pipeline makes of an image; with test-time augmentation lists of it.

        Raises:
            ValueError: it makes None; beside what its transforms raise.
        """
        data = self.pipeline(dict(img_path=path))
        if data is None:
            raise ValueError('a transform of the test pipeline gave None for it')
        return data

    def read(self, path: str) -> np.ndarray:
        """An image as the pipeline's loader turns it, ``(H, W, 3)`` uint8 RGB; for pictures.

        Raises:
            ValueError: it is none of these: an array, or of other bands.
        """
        loader = self.pipeline.transforms[0]
        stored = hasattr(loader, 'color_type') and not turns(loader)
        backend = getattr(loader, 'imdecode_backend', None)
        try:
            image = mmcv.imread(path, 'color_ignore_orientation' if stored else 'color', 'rgb',
                                backend if backend in ('cv2', 'pillow') else None)
        except Exception:  # what OpenCV and Pillow say differs from version to version
            image = None
        if image is None:
            raise ValueError(f"'{path}' cannot be shown in red, green and blue: leave the overlay "
                             'out (--save index,color)')
        return image

    def key(self, data: dict) -> tuple:
        """Images with equal keys may share a batch."""
        if self.tta is None:
            return (data['inputs'].shape, data['data_samples'].ori_shape)
        return tuple((x.shape, s.ori_shape) for x, s in zip(data['inputs'], data['data_samples']))

    @torch.no_grad()
    def __call__(self, several: list) -> list:
        """Class indices of prepared images with equal keys: ``(H, W)`` int32 arrays, each of the
        size of its image as the loader gives it (turned as its EXIF data say)."""
        samples = [data['data_samples'] for data in several]
        if self.tta is not None:
            results = self.tta.test_step(dict(
                inputs=[list(views) for views in zip(*(data['inputs'] for data in several))],
                data_samples=[list(views) for views in zip(*samples)]))
        elif self.tile is not None:
            return [self._tiled(data) for data in several]
        else:
            results = self.segmentor.test_step(dict(
                inputs=[data['inputs'] for data in several], data_samples=samples))
        return [result.pred_sem_seg.data.reshape(result.ori_shape).cpu().numpy().astype(np.int32)
                for result in results]

    def _tiled(self, data: dict) -> np.ndarray:
        ready = self.segmentor.data_preprocessor(
            dict(inputs=[data['inputs']], data_samples=[data['data_samples']]), False)
        return tiled_classes(self.segmentor, ready['inputs'], ready['data_samples'][0].metainfo,
                             self.tile, self.stride, self.batch).numpy()


def pipeline_of(cfg) -> list:
    """The config's test pipeline, as mmseg's inference takes it, without labels."""
    steps = cfg.get('test_pipeline')
    if steps is None:
        steps = dataset_config(cfg, 'test_dataloader', 'val_dataloader').get('pipeline')
    if steps is None:
        raise ValueError('the config has neither test_pipeline nor test_dataloader.dataset.'
                         'pipeline: add test_pipeline, for example [dict(type='
                         "'LoadImageFromFile'), dict(type='PackSegInputs')]")
    return without_labels(steps)


def without_labels(steps: list) -> list:
    """A copy of a pipeline, without the steps that a mask of the whole image cannot have."""
    kept = []
    for step in copy.deepcopy(steps):
        if isinstance(step, (list, tuple)):  # one of TestTimeAug's alternatives
            step = without_labels(step)
            if step:
                kept.append(step)
        elif step['type'].split('.')[-1] not in LEFT_OUT:
            if step['type'] == 'TestTimeAug':
                step['transforms'] = without_labels(step['transforms'])
            kept.append(step)
    return kept


def default_tta(steps: list, scales=SCALES) -> list:
    """A pipeline with both flips of ``scales`` times the size that ``steps`` give the image."""
    sizes = [dict(type='Resize', scale_factor=scale, keep_ratio=True) for scale in scales]
    flips = [dict(type='RandomFlip', prob=prob, direction='horizontal') for prob in (0.0, 1.0)]
    return [*steps[:-1], dict(type='TestTimeAug', transforms=[sizes, flips, [steps[-1]]])]
