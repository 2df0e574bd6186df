"""The package from Python: ``mmseg_esl.load``, ``convert`` and ``compare``.

The examples run in the folder in which docs/quickstart.ipynb has run, as the tests do.
"""
from __future__ import annotations

import tempfile
from os import PathLike
from pathlib import Path

import numpy as np
from PIL import Image

from . import register  # noqa: F401 - mends the stack, before what follows imports it
from .conversion import DEFAULT
from .conversion import convert as _convert
from .predict import Masker, config_in, from_work_dir, load_segmentor
from .predict.images import image_problem
from .results.compare import compare

__all__ = ['Predictor', 'compare', 'convert', 'load']


class Predictor:
    """A trained segmentor that makes masks.

    Args:
        segmentor: from ``predict.load_segmentor``.

    Attributes:
        segmentor: the plain mmseg model, in eval mode.
        classes: names.
        palette: an RGB triple each.
    """

    def __init__(self, segmentor):
        self.segmentor, self._masker = segmentor, Masker(segmentor)
        self.classes = segmentor.dataset_meta['classes']
        self.palette = segmentor.dataset_meta['palette']

    def predict(self, image) -> np.ndarray:
        """The class of each pixel.

        Args:
            image: a path, or ``(H, W, 3)`` uint8 RGB (written to a file first, so that it passes
                the pipeline of the config).

        Returns:
            ``(H, W)`` int32 indices into ``classes``.

        Raises:
            FileNotFoundError: no such image.
            TypeError: an array of another shape or type.
            ValueError: the file is cut off, damaged or empty.

        Examples:
            >>> import mmseg_esl
            >>> model = mmseg_esl.load('work_dirs/my_esl')
            >>> mask = model.predict('data/images/val/0.png')
            >>> mask.shape, mask.dtype
            ((64, 64), dtype('int32'))
            >>> {model.classes[c] for c in mask.flat} <= {'ground', 'rows', 'columns'}
            True
        """
        if isinstance(image, (str, PathLike)):
            if not Path(image).is_file():
                raise FileNotFoundError(f'there is no image {image}')
            problem = image_problem(str(image))
            if problem:  # of half a JPEG, say, decoders make a whole one with grey
                raise ValueError(f'the image {image} cannot be used: {problem}')
            return self._masker([self._masker.prepare(str(image))])[0]
        image = np.asarray(image)
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise TypeError('an image is a path or an (H, W, 3) uint8 RGB array, got '
                            f'{image.dtype} of shape {image.shape}')
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / 'image.png'
            Image.fromarray(image).save(path)
            return self.predict(path)


def load(model, checkpoint=None, *, network: str | None = None, device: str = 'cpu') -> Predictor:
    """A trained model, ready to predict.

    Args:
        model: the work folder of a training, or a config.
        checkpoint: its weights; None: the newest whole checkpoint of the folder.
        network: of a method's networks; None: the one that predicted in training.
        device: as torch names it.

    Raises:
        ValueError: no config or checkpoint, another architecture, no such network.

    Examples:
        >>> import mmseg_esl
        >>> mmseg_esl.load('work_dirs/my_esl').classes
        ('ground', 'rows', 'columns')
        >>> student = mmseg_esl.load('my_esl.py', 'work_dirs/my_esl/iter_600.pth',
        ...                          network='student')
    """
    if Path(model).is_dir():
        config, found = (config_in(model), checkpoint) if checkpoint else from_work_dir(model)
    elif checkpoint is None:
        raise ValueError(f'{model} is no work folder: name a checkpoint too')
    else:
        config, found = str(model), checkpoint
    return Predictor(load_segmentor(config, found, device, network))


def convert(config, unlabeled, out, *, method: str = DEFAULT, max_iters: int | None = None):
    """Write the config of a method around a supervised one; what ``mmseg-esl convert`` does.

    Args:
        config: path or ``package::`` name.
        unlabeled: folder of images.
        out: path of the new one.
        method: a folder of configs/.
        max_iters: length, needed where the schedule counts epochs.

    Returns:
        ``conversion.config.Conversion``: its ``done`` and ``check`` are sentences.

    Raises:
        conversion.Refused: with the reason and the remedy.
        FileExistsError: ``out`` is there.

    Examples:
        >>> import mmseg_esl
        >>> made = mmseg_esl.convert('my_supervised.py', unlabeled='data/images/more',
        ...                          out='my_fixmatch.py', method='fixmatch')
        >>> made.text.splitlines()[0]
        '# FixMatch around my_supervised.py,'
    """
    if Path(out).exists():
        raise FileExistsError(f'{out} is there already: remove it, or choose another name')
    made = _convert(str(config), str(unlabeled), str(out), max_iters, method)
    Path(out).write_text(made.text, encoding='utf-8')
    return made
