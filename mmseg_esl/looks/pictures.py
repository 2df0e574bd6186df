"""Soft labels, parts and predictions of one image as figures (paper Figs. 1, 3, 4 and 5).

Each function takes an RGB image ``(H, W, 3)`` uint8, a :class:`Look` of it alone (B = 1) and C
class names, and returns a matplotlib Figure, 10 inches wide; ``panels.save`` writes it.
"""
from __future__ import annotations

import math

import numpy as np

from .look import Look
from .palette import COUNTS, WRONG, class_colours, paint, part_colours
from .panels import (
    HANDLE,
    bar_chart,
    colour_bar,
    figure_legend,
    grid,
    legend_below,
    mark,
    show,
    swatches,
)

BARS = 12  # most classes in a bar chart: more could not be read
DOMINANT, OTHER, DELTA = '#0072B2', '#BBBBBB', '#D55E00'


def to_numpy(tensor) -> np.ndarray:
    """The one image of a tensor ``(1, ...)``."""
    return tensor[0].cpu().numpy()


def entropy_of(seen: Look) -> np.ndarray:
    """``(H, W)`` in [0, 1]: entropy of the probabilities over log C."""
    probs = to_numpy(seen.probs).astype(float)
    terms = np.where(probs > 0, probs * np.log(np.where(probs > 0, probs, 1)), 0)
    return (-terms.sum(axis=0) / math.log(len(probs))).clip(0, 1)


def shares_of(size: np.ndarray) -> list[float]:
    """Per cent of the pixels with one, two, three or more dominant classes."""
    return [100 * float(np.mean(where)) for where in (size == 1, size == 2, size >= 3)]


def most_uncertain(seen: Look) -> tuple[int, int]:
    """(x, y) of the pixel with the highest entropy."""
    entropy = entropy_of(seen)
    y, x = np.unravel_index(entropy.argmax(), entropy.shape)
    return int(x), int(y)


def dominant(image: np.ndarray, seen: Look, classes, *, pixel=None, title: str = 'image'):
    """Dominant classes (Figs. 1, 3): image, how many a pixel has, entropy, one pixel's bars.

    Args:
        pixel: (x, y) of the bar chart; the pixel with the highest entropy by default.
    """
    pixel = pixel or most_uncertain(seen)
    size = to_numpy(seen.size)
    figure, axes = grid(2, 2, size.shape, foot=0.6, least=2.4)
    show(axes[0, 0], image, title, exact=False)
    show(axes[0, 1], paint(np.clip(size, 1, 3) - 1, COUNTS), 'dominant classes of each pixel')
    legend_below(axes[0, 1], swatches(COUNTS, [
        f'{name}: {share:.1f} %' for name, share in zip(('1', '2', '3 or more'),
                                                        shares_of(size))]))
    _entropy_map(axes[1, 0], seen)
    for axis in (axes[0, 0], axes[0, 1], axes[1, 0]):
        mark(axis, pixel)
    _bars(axes[1, 1], seen, classes, pixel)
    return figure


def entropy(image: np.ndarray, seen: Look, *, title: str = 'image'):
    """The image and the entropy of the probabilities, over log C."""
    figure, axes = grid(1, 2, image.shape, foot=0.6)
    show(axes[0, 0], image, title, exact=False)
    _entropy_map(axes[0, 1], seen)
    return figure


def parts(image: np.ndarray, seen: Look, classes, num_parts: int, *, colours=None,
          title: str = 'image'):
    """Part grouping (Fig. 4): a class has a hue, its parts have shades of it.

    Args:
        num_parts: K, up to 10 can be told apart.
        colours: ``(C, 3)`` of the classes; :func:`class_colours` by default.
    """
    colours = class_colours(classes) if colours is None else colours
    found, shades = to_numpy(seen.parts), part_colours(colours, num_parts)
    there = np.unique(found[found >= 0])
    owners = np.unique(there // num_parts)
    labels, handle = [str(classes[c]) for c in owners], HANDLE + 0.14 * num_parts
    figure, axes = grid(1, 2, image.shape, legend=labels, handle=handle)
    show(axes[0, 0], image, title, exact=False)
    show(axes[0, 1], paint(found, shades), 'parts',
         f'{len(there)} of the {len(owners) * num_parts} parts of these classes; '
         f'shades: part 1 to {num_parts}')
    rows = shades.reshape(len(classes), num_parts, 3)[owners]
    figure_legend(figure, [tuple(swatches(row, range(num_parts))) for row in rows], labels, handle)
    return figure


def compare(image: np.ndarray, predictions: dict, classes, truth=None, *, ignore: int = 255,
            colours=None, title: str = 'image'):
    """Predictions side by side (Fig. 5), with truth and where each is wrong.

    Args:
        predictions: name -> ``(H, W)`` classes; two or more.
        truth: ``(H, W)`` of the same size, or None: then the last panel says where they differ.
        ignore: truth of pixels that do not count; values outside [0, C) do not either.

    Raises:
        ValueError: one prediction, or maps of different sizes.
    """
    colours = class_colours(classes) if colours is None else colours
    maps = [*predictions.values(), *([] if truth is None else [truth])]
    if len(predictions) < 2 or len({np.shape(each) for each in maps}) > 1:
        raise ValueError('compare needs two predictions (and a truth) of one size, got shapes '
                         f'{[np.shape(each) for each in maps]}')
    if truth is not None:
        maps[-1] = np.where((truth >= 0) & (truth < len(classes)) & (truth != ignore), truth, -1)
    present = np.unique(np.concatenate([np.ravel(each) for each in maps]))
    ignored, present = present[:1] == -1, present[present >= 0]
    labels, patches = [str(classes[c]) for c in present], [*colours[present]]
    if truth is not None:
        number = 3 if ignored.any() else 2
        labels += ['right', 'wrong', 'ignored'][:number]
        patches += [*WRONG[:number]]
    columns = -(-(len(predictions) + 2) // 2) if truth is None else len(predictions) + 1
    figure, axes = grid(2, columns, image.shape, legend=labels)
    show(axes[0, 0], image, title, exact=False)
    if truth is None:
        _without_truth(axes, predictions, colours)
    else:
        _with_truth(axes, predictions, maps[-1], colours)
    figure_legend(figure, swatches(patches, labels), labels)
    return figure


def difference(prediction: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """``(H, W)``: 0 right, 1 wrong, 2 ignored (truth -1)."""
    return np.where(truth < 0, 2, (prediction != truth).astype(int))


def mean_iou(prediction: np.ndarray, truth: np.ndarray, num_classes: int) -> float:
    """In per cent, over the classes that occur in prediction or truth, where truth is not -1."""
    known = truth >= 0
    table = np.bincount(truth[known] * num_classes + prediction[known],
                        minlength=num_classes ** 2).reshape(num_classes, num_classes)
    union = table.sum(axis=0) + table.sum(axis=1) - table.diagonal()
    seen = union > 0
    return 100 * float(np.mean(table.diagonal()[seen] / union[seen])) if seen.any() else math.nan


# --------------------------------------------------------------------------- pieces of the above


def _entropy_map(axis, seen: Look) -> None:
    drawn = show(axis, entropy_of(seen), 'entropy', cmap='cividis', vmin=0, vmax=1)
    colour_bar(axis, drawn, f'entropy of the probabilities / log {seen.probs.shape[1]}')


def _bars(axis, seen: Look, classes, pixel) -> None:
    x, y = pixel
    probs, size = to_numpy(seen.probs)[:, y, x], int(seen.size[0, y, x])
    kept = to_numpy(seen.target)[:, y, x] > 0
    order = np.argsort(-probs, kind='stable')
    delta = probs[order[size - 1]]
    plural = 'class' if size == 1 else 'classes'

    def note(shown: int) -> str:
        rest = order[shown:]
        more = f'; {len(rest)} more classes: {probs[rest].sum():.3f}' if len(rest) else ''
        return f"{seen.network}'s probability; dashed: δ = {delta:.3f}{more}"

    bar_chart(axis, probs[order], [str(classes[c]) for c in order],
              [DOMINANT if kept[c] else OTHER for c in order], most=BARS,
              title=f'pixel ({x}, {y}): {size} dominant {plural}', note=note)
    axis.axvline(delta, color=DELTA, linestyle='--')


def _with_truth(axes, predictions: dict, truth: np.ndarray, colours) -> None:
    show(axes[1, 0], paint(truth, colours, WRONG[2]), 'truth')
    for column, (name, found) in enumerate(predictions.items(), 1):
        wrong = difference(found, truth)
        counted = max(1, (wrong < 2).sum())
        show(axes[0, column], paint(found, colours), name,
             f'mIoU of this image: {mean_iou(found, truth, len(colours)):.1f} %')
        show(axes[1, column], paint(wrong, WRONG), 'where it is wrong',
             f'{100 * (wrong == 1).sum() / counted:.1f} % of the pixels')


def _without_truth(axes, predictions: dict, colours) -> None:
    panels = iter(axes.flat[1:])
    for name, found in predictions.items():
        show(next(panels), paint(found, colours), name)
    first, *others = predictions.values()
    differ = np.any([first != found for found in others], axis=0)
    show(next(panels), paint(differ.astype(int), WRONG), 'where they differ',
         f'{100 * differ.mean():.1f} % of the pixels')
    for rest in panels:
        rest.set_axis_off()
