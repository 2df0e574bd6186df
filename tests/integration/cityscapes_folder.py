"""A folder shaped like Cityscapes, small enough to train on in seconds.

``python cityscapes_folder.py FOLDER`` writes one. Images are coloured rectangles on a background,
so that a network can learn them. Only labelled training and validation images have label maps.
"""
from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image

# trainId -> colour; the other classes never occur, as rare ones would not in a small labelled set
COLOURS = {0: (128, 64, 128), 2: (70, 70, 70), 8: (107, 142, 35), 10: (70, 130, 180),
           11: (220, 20, 60), 13: (0, 0, 142)}
VOID = 255


def draw(rng: np.random.Generator, size: tuple, colours: dict, void: bool = True):
    """Image ``(H, W, 3)`` uint8 (RGB) and label map ``(H, W)`` uint8 of overlapping rectangles.

    Args:
        rng: source of every random number.
        size: (H, W).
        colours: class -> colour; the first is the background.
        void: whether the first column is unlabelled.
    """
    height, width = size
    classes = list(colours)
    label = np.full(size, classes[0], dtype=np.uint8)
    for c in classes[1:]:
        top, left = rng.integers(0, height * 2 // 3), rng.integers(0, width * 2 // 3)
        tall, wide = rng.integers(height // 4, height // 2), rng.integers(width // 6, width // 3)
        label[top:top + tall, left:left + wide] = c
    table = np.zeros((256, 3))
    table[classes] = [colours[c] for c in classes]
    image = table[label] + rng.normal(0, 12, (*size, 3))
    if void:
        label[:, 0] = VOID
    return image.clip(0, 255).astype(np.uint8), label


def write(path: Path, array: np.ndarray) -> None:
    """Save an image; folders are made, the suffix decides the format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def write_cityscapes(folder, num_labeled: int = 6, num_unlabeled: int = 10, num_val: int = 3,
                     size: tuple = (48, 96)) -> Path:
    """Write leftImg8bit, gtFine and splits/1-4 below ``folder``, the same bytes every time."""
    folder, rng = Path(folder), np.random.default_rng(0)
    lists = {'labeled': [], 'unlabeled': []}
    for index in range(num_labeled + num_unlabeled + num_val):
        part = 'val' if index >= num_labeled + num_unlabeled else 'train'
        name = 'labeled' if index < num_labeled else 'unlabeled'
        stem = f'aachen/aachen_{index:06d}_000019'
        image, label = draw(rng, size, COLOURS)
        write(folder / f'leftImg8bit/{part}/{stem}_leftImg8bit.png', image)
        if part == 'val' or name == 'labeled':
            write(folder / f'gtFine/{part}/{stem}_gtFine_labelTrainIds.png', label)
        if part == 'train':
            lists[name].append(stem)
    for name, stems in lists.items():
        path = folder / f'splits/1-4/{name}.txt'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text('\n'.join(stems) + '\n')
    return folder


if __name__ == '__main__':
    write_cityscapes(sys.argv[1])
