"""The demo's contact sheet: what went in, what came out, and what ESL+ sees on the way."""
from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from synthetic import CLASSES, PALETTE

from mmseg_esl.looks import look
from mmseg_esl.looks.palette import COUNTS, paint
from mmseg_esl.looks.panels import swatches
from mmseg_esl.looks.pictures import mean_iou, shares_of, to_numpy

TITLES = ('input', 'truth', 'supervised (EMA)', 'ESL+ (teacher)', 'dominant classes')


def chosen_stems(data: Path, count: int) -> list[str]:
    """The first test images with three kinds of object or more: chosen by truth, not by result.

    Where there are too few, others follow.
    """
    from PIL import Image
    paths = sorted((data / 'masks' / 'test').glob('*.png'))
    plain = {path: len(np.unique(np.asarray(Image.open(path)))) < 4 for path in paths}
    return [path.stem for path in sorted(paths, key=plain.get)[:count]]


def view(model, image: np.ndarray):
    """The Look of the network that labels, of one RGB image (H, W, 3)."""
    bgr = torch.from_numpy(np.ascontiguousarray(image[..., ::-1].transpose(2, 0, 1)))
    return look(model, model.data_preprocessor(dict(inputs=[bgr]), training=False)['inputs'])


def row(supervised, esl, data: Path, stem: str) -> tuple[list, list]:
    """The pictures of one test image, and what to write below each."""
    from PIL import Image
    image = np.asarray(Image.open(data / 'images' / 'test' / f'{stem}.png').convert('RGB'))
    truth = np.asarray(Image.open(data / 'masks' / 'test' / f'{stem}.png')).astype(int)
    seen = view(esl, image)
    size = to_numpy(seen.size)
    found = [to_numpy(view(supervised, image).classes), to_numpy(seen.classes)]
    pictures = [image, *(paint(each, PALETTE) for each in (truth, *found)),
                paint(size.clip(1, 3) - 1, COUNTS)]
    scores = [f'mIoU {mean_iou(each, truth, len(CLASSES)):.0f}' for each in found]
    shares = ' / '.join(f'{share:.0f}' for share in shares_of(size))
    return pictures, [stem, '', *scores, f'{shares} %']


def contact_sheet(supervised, esl, data: Path, path: Path, count: int = 6) -> None:
    """Write the sheet: one row per test image, one titled column per kind of picture, legends."""
    import matplotlib
    matplotlib.use('Agg')
    import matplotlib.pyplot as plt
    stems = chosen_stems(Path(data), count)
    figure, axes = plt.subplots(len(stems), len(TITLES), squeeze=False, layout='constrained',
                                figsize=(2.3 * len(TITLES), 1.95 * len(stems) + 0.9))
    for line, stem in zip(axes, stems):
        for axis, picture, note in zip(line, *row(supervised, esl, Path(data), stem)):
            axis.imshow(picture, interpolation='nearest')
            axis.set_xlabel(note, fontsize=8, labelpad=2)
            axis.set_xticks([])
            axis.set_yticks([])
            axis.spines[:].set_visible(False)
    for axis, title in zip(axes[0], TITLES):
        axis.set_title(title, fontsize=11)

    def legend(colours, names, title, place):
        figure.legend(handles=swatches(colours, names), title=title, loc=place, ncols=len(names),
                      fontsize=8, title_fontsize=8, frameon=False, handlelength=1.2,
                      columnspacing=1.0)

    legend(PALETTE, CLASSES, 'classes', 'outside lower left')
    legend(COUNTS, ('1', '2', '3 or more'), 'dominant classes of a pixel', 'outside lower right')
    figure.savefig(path, dpi=130)
    plt.close(figure)
