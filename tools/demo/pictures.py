"""The demo's contact sheet: what went in, what came out, and what ESL sees on the way."""
from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from synthetic import CLASSES, PALETTE

from mmseg_esl.functional import assign_parts, dynamic_soft_label

COUNTS = np.array([(230, 230, 230), (86, 180, 233), (204, 51, 17)], np.uint8)  # 1, 2, >= 3
PARTS = np.array([(68, 119, 170), (238, 102, 119), (34, 136, 51), (204, 187, 68), (170, 51, 119),
                  (102, 204, 238), (187, 187, 187)], np.uint8)
TITLES = ('input', 'truth', 'supervised (EMA)', 'ESL (teacher)', 'dominant classes', 'parts')


def chosen_stems(data: Path, count: int) -> list[str]:
    """The first test images with three kinds of object or more: chosen by truth, not by result."""
    from PIL import Image
    stems = []
    for path in sorted((data / 'masks' / 'test').glob('*.png')):
        if len(np.unique(np.asarray(Image.open(path)))) >= 4:
            stems.append(path.stem)
    return stems[:count]


def colour(index: np.ndarray, palette) -> np.ndarray:
    return np.asarray(palette, np.uint8)[index]


def paint_parts(parts: np.ndarray, classes: np.ndarray, num_parts: int) -> np.ndarray:
    """Parts of objects in colours, parts of the background in shades of grey."""
    picture = colour(np.clip(parts, 0, None) % num_parts % len(PARTS), PARTS)
    grey = 40 + 12 * (np.clip(parts, 0, None) % num_parts)
    picture[classes == 0] = grey[classes == 0, None]
    return picture


def mean_iou(prediction: np.ndarray, truth: np.ndarray) -> float:
    """Over the classes that occur in either map, per cent."""
    seen = np.union1d(prediction, truth)
    return 100 * float(np.mean([((prediction == c) & (truth == c)).sum() /
                                ((prediction == c) | (truth == c)).sum() for c in seen]))


def look(model, image: np.ndarray) -> dict:
    """Teacher's view of one RGB image (H, W, 3): classes, number of dominant classes, parts."""
    bgr = torch.from_numpy(np.ascontiguousarray(image[..., ::-1].transpose(2, 0, 1)))
    batch = model.data_preprocessor(dict(inputs=[bgr]), training=False)['inputs']
    memory = getattr(model, 'part_memory', None)
    view = model.teacher_view(batch, encoder=memory is not None)
    probs = view.logits.float().softmax(dim=1)
    classes = probs.argmax(dim=1)
    seen = dict(classes=classes, count=dynamic_soft_label(
        probs, mass=getattr(model.semi_cfg, 'mass', 0.95))[1])
    if memory is not None:
        seen['parts'] = assign_parts(view.encoder.float(), classes, memory.prototypes,
                                     align_corners=model.align_corners)
    return {key: value[0].cpu().numpy() for key, value in seen.items()}


def row(supervised, esl, data: Path, stem: str) -> tuple[list, list]:
    """The pictures of one test image, and what to write below each."""
    from PIL import Image
    image = np.asarray(Image.open(data / 'images' / 'test' / f'{stem}.png').convert('RGB'))
    truth = np.asarray(Image.open(data / 'masks' / 'test' / f'{stem}.png'))
    ours, theirs = look(esl, image), look(supervised, image)
    num_parts = esl.part_memory.num_parts
    shares = [(ours['count'] == n).mean() * 100 for n in (1, 2)]
    pictures = [image, colour(truth, PALETTE), colour(theirs['classes'], PALETTE),
                colour(ours['classes'], PALETTE), colour(np.clip(ours['count'], 1, 3) - 1, COUNTS),
                paint_parts(ours['parts'], ours['classes'], num_parts)]
    notes = [stem, '', f'mIoU {mean_iou(theirs["classes"], truth):.0f}',
             f'mIoU {mean_iou(ours["classes"], truth):.0f}',
             f'{shares[0]:.0f} / {shares[1]:.0f} / {100 - sum(shares):.0f} %', '']
    return pictures, notes


def contact_sheet(supervised, esl, data: Path, path: Path, count: int = 6) -> None:
    """Write the sheet: one row per test image, one titled column per kind of picture, legends."""
    import matplotlib
    matplotlib.use('Agg')
    import matplotlib.pyplot as plt
    from matplotlib.patches import Patch
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
        handles = [Patch(facecolor=np.asarray(c) / 255, edgecolor='0.4', label=n)
                   for c, n in zip(colours, names)]
        figure.legend(handles=handles, title=title, loc=place, ncols=len(handles), fontsize=8,
                      title_fontsize=8, frameon=False, handlelength=1.2, columnspacing=1.0)

    num_parts = min(esl.part_memory.num_parts, len(PARTS))
    legend(PALETTE, CLASSES, 'classes', 'outside lower left')
    legend(COUNTS, ('1', '2', '3 or more'), 'dominant classes of a pixel', 'outside lower center')
    legend([*PARTS[:num_parts], (64, 64, 64)], [*range(1, num_parts + 1), 'background'],
           'part of its class', 'outside lower right')
    figure.savefig(path, dpi=130)
    plt.close(figure)
