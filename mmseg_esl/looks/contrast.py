"""The pixel-to-part contrast of one image as figures: an anchor and its pairs, and t-SNE."""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ..functional import nearest
from .look import Look
from .palette import paint, part_colours
from .panels import NAME, SMALL, TITLE, bar_chart, figure_legend, grid, mark, show, swatches
from .pictures import to_numpy

OWN, SAME_CLASS, OTHERS = (0, 114, 178), (230, 159, 0), (204, 121, 167)  # Okabe and Ito
PAIRS = np.array([OWN, SAME_CLASS, OTHERS], np.uint8)
NAMES = ('own part: positives', 'other parts of the class: negatives', 'other classes: negatives')
BARS = 14
PIXELS, ENTRIES, SEED = 600, 900, 0  # of t-SNE, whose time grows faster than the points
LEAST = 10  # points below which t-SNE shows nothing


def anchor_pixel(seen: Look, num_parts: int) -> tuple[int, int]:
    """(x, y) of an anchor to show: the most confident pixel of a class with several parts.

    It is the rarest class with at least two parts and 3 % of the pixels (else the most frequent
    class): rarer ones are often specks of a wrong prediction.
    """
    found, confidence = to_numpy(seen.parts), to_numpy(seen.confidence)
    owner = np.where(found < 0, -1, found // num_parts)
    classes, sizes = np.unique(owner[owner >= 0], return_counts=True)
    fit = [(size, c) for size, c in zip(sizes, classes)
           if size >= 0.03 * owner.size and len(np.unique(found[owner == c])) > 1]
    chosen = min(fit)[1] if fit else classes[sizes.argmax()]
    y, x = np.unravel_index(np.where(owner == chosen, confidence, -1).argmax(), owner.shape)
    return int(x), int(y)


def pair_map(parts: np.ndarray, pixel, num_parts: int) -> np.ndarray:
    """``(H, W)``: 0 the anchor's own part, 1 other parts of its class, 2 other classes, -1 none."""
    own = parts[pixel[1], pixel[0]]
    out = np.where(parts // num_parts == own // num_parts, 1, 2)
    out[parts == own] = 0
    out[parts < 0] = -1
    return out


def queue_means(memory) -> np.ndarray:
    """``(C * K, L)`` mean of the entries of each part queue; NaN where a queue is empty."""
    filled = memory.filled.cpu().numpy()
    queue = memory.queue[:, :memory.queue_length].float().cpu().numpy()
    there = np.arange(memory.queue_length) < filled[:, None]
    with np.errstate(invalid='ignore', divide='ignore'):
        return (queue * there[..., None]).sum(axis=1) / filled[:, None]


def similarities(seen: Look, memory, pixel) -> np.ndarray:
    """``(C * K,)`` cosine of the anchor's embedding and each queue's mean, or NaN."""
    rows, cols = seen.embedding.shape[-2:]
    place = nearest(torch.arange(rows * cols).view(rows, cols), seen.classes.shape[-2:],
                    seen.align_corners)[pixel[1], pixel[0]]
    anchor = to_numpy(seen.embedding).reshape(-1, rows * cols)[:, int(place)]
    means = queue_means(memory)
    norms = np.linalg.norm(means, axis=1) * np.linalg.norm(anchor)
    return means @ anchor / np.maximum(norms, 1e-12)


def pairs(image: np.ndarray, seen: Look, classes, memory, *, pixel=None, title: str = 'anchor'):
    """One anchor with its positives and negatives (paper Sec. 3.3).

    Args:
        image: RGB ``(H, W, 3)`` uint8. seen: a Look of it alone. classes: C names.
        memory: the model's PartMemory.
        pixel: (x, y) of the anchor; :func:`anchor_pixel` by default.

    Returns:
        Figure: the image, tinted by what each pixel's part is to the anchor, and the cosine of the
        anchor's embedding with the mean of each part queue.

    Raises:
        ValueError: the pixel belongs to no part.
    """
    num_parts = memory.num_parts
    pixel = pixel or anchor_pixel(seen, num_parts)
    found = to_numpy(seen.parts)
    own = found[pixel[1], pixel[0]]
    if own < 0:
        raise ValueError(f'pixel {tuple(pixel)} belongs to no part: choose another with --pixel')
    figure, axes = grid(1, 2, image.shape, foot=0.5, least=3.2, legend=NAMES)
    show(axes[0, 0], tint(image, pair_map(found, pixel, num_parts)), title,
         f'pixel {tuple(pixel)}: {part_name(own, classes, num_parts)}')
    mark(axes[0, 0], pixel)
    _bars(axes[0, 1], similarities(seen, memory, pixel), own, classes, num_parts)
    figure_legend(figure, swatches(PAIRS, NAMES), NAMES)
    return figure


def tint(image: np.ndarray, kinds: np.ndarray) -> np.ndarray:
    """The image in grey under the colours of PAIRS, the anchor's own class more strongly."""
    grey = image.mean(axis=-1, keepdims=True)
    strength = np.choose(kinds + 1, (0.0, 0.7, 0.7, 0.35))[..., None]
    return np.rint((1 - strength) * grey + strength * paint(kinds, PAIRS)).astype(np.uint8)


def part_name(part: int, classes, num_parts: int) -> str:
    name = str(classes[part // num_parts])
    name = name if len(name) <= NAME - 3 else name[:NAME - 4] + '…'  # the number shall stay
    return f'{name} {part % num_parts + 1}'


def _bars(axis, cosine: np.ndarray, own: int, classes, num_parts: int) -> None:
    """The class's own parts and the most similar others."""
    known = np.flatnonzero(np.isfinite(cosine))
    if not len(known):
        axis.text(0.5, 0.5, 'the part queues are empty', ha='center', fontsize=TITLE)
        axis.set_axis_off()
        return
    same = known[known // num_parts == own // num_parts]
    others = np.setdiff1d(known, same)
    others = others[np.argsort(-cosine[others])][:max(BARS - len(same), 0)]
    shown = np.concatenate([same, others])
    shown = shown[np.argsort(-cosine[shown], kind='stable')]
    kinds = np.where(shown // num_parts == own // num_parts, 1, 2)
    kinds[shown == own] = 0
    empty = len(cosine) - len(known)
    bar_chart(axis, cosine[shown], [part_name(p, classes, num_parts) for p in shown],
              PAIRS[kinds] / 255, most=BARS, title="cosine with the mean of each part's queue",
              note=lambda count: f'{count} of {len(cosine)} parts; empty queues: {empty}')


@dataclass
class Points:
    """N features for t-SNE.

    Attributes:
        features: ``(N, L)``, of length 1. parts: ``(N,)`` flat part numbers.
        pixels: ``(N,)`` bool, a pixel's embedding; otherwise an entry of a part queue.
    """
    features: np.ndarray
    parts: np.ndarray
    pixels: np.ndarray


def queue_points(memory, *, limit: int = ENTRIES, seed: int = SEED) -> Points:
    """A random sample of the queues' entries, equally many of each: at most ``limit`` in all, but
    one of each queue."""
    rng, filled = np.random.default_rng(seed), memory.filled.tolist()
    there = [part for part, count in enumerate(filled) if count]
    found = [_sample(memory.queue[part, :filled[part]].float().cpu().numpy(),
                     np.full(filled[part], part), max(1, limit // len(there)), rng, False)
             for part in there]
    return join(found or [_no_points(memory.queue.shape[-1])])


def pixel_points(seen: Look, *, limit: int = PIXELS, seed: int = SEED) -> Points:
    """A random sample of at most ``limit`` pixel embeddings of one image, with their parts."""
    vectors = to_numpy(seen.embedding)
    numbers = to_numpy(nearest(seen.parts, vectors.shape[1:], seen.align_corners)).ravel()
    known = numbers >= 0
    return _sample(vectors.reshape(len(vectors), -1).T[known], numbers[known], limit,
                   np.random.default_rng(seed), True)


def join(points: list[Points]) -> Points:
    return Points(*(np.concatenate([getattr(each, name) for each in points])
                    for name in ('features', 'parts', 'pixels')))


def _sample(vectors, numbers, limit: int, rng, pixels: bool) -> Points:
    index = np.sort(rng.permutation(len(vectors))[:limit])
    unit = vectors[index]
    unit = unit / np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), 1e-12)
    return Points(unit, numbers[index], np.full(len(index), pixels))


def _no_points(width: int) -> Points:
    return Points(np.zeros((0, width), np.float32), np.zeros(0, int), np.zeros(0, bool))


def embedding(points: Points, classes, num_parts: int, colours, *, seed: int = SEED,
              network: str = 'network'):
    """t-SNE of part features (Fig. 6): colour by class, shade by part.

    Args:
        network: name of the one whose embeddings they are, for the title.

    Raises:
        ValueError: fewer than ten points.
    """
    from sklearn.manifold import TSNE
    count = len(points.features)
    if count < LEAST:
        raise ValueError(f'only {count} part features (queue entries and pixels): t-SNE needs '
                         f'at least {LEAST}; the checkpoint may be too early')
    perplexity = min(30.0, (count - 1) / 3)
    flat = TSNE(perplexity=perplexity, init='pca', random_state=seed).fit_transform(
        points.features.astype(np.float32))
    owners = np.unique(points.parts // num_parts)
    labels = [str(classes[c]) for c in owners]
    figure, axes = grid(1, 1, (0.62, 1), legend=labels)
    axis, shades = axes[0, 0], part_colours(colours, num_parts) / 255
    for where, marker, size in ((points.pixels, 'x', 12), (~points.pixels, 'o', 26)):
        colour = shades[points.parts[where]]
        line = dict(c=colour, linewidths=0.8) if marker == 'x' else dict(
            c=colour, edgecolors='0.25', linewidths=0.4)
        axis.scatter(*flat[where].T, s=size, marker=marker, **line)
    axis.set_xticks([])
    axis.set_yticks([])
    axis.set_title(f't-SNE of unit-length {network} embeddings', fontsize=TITLE)
    axis.set_xlabel(f'● {(~points.pixels).sum()} entries of the part queues, '
                    f'× {points.pixels.sum()} pixels; shades: parts of a class; seed {seed}',
                    fontsize=SMALL)
    figure_legend(figure, swatches(colours[owners], labels), labels)
    return figure
