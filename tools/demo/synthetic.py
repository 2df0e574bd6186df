"""Draw the demo's data set: people, cars, trees and dogs, made of parts, on cluttered backgrounds.

Everything comes from seeded numpy generators, one per image: an image depends on nothing but
(seed, split, index). Shapes are signed distance functions: the image gets an anti-aliased edge, the
label map a crisp one. Numpy only, so pixels do not depend on the version of a drawing library.

    OUT/images/train/*.png  OUT/images/test/*.png
    OUT/masks/train/*.png   labelled training images only
    OUT/masks/test/*.png
    OUT/labeled.txt  OUT/unlabeled.txt   stems, one a line
"""
from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path

import numpy as np

CLASSES = ('background', 'person', 'car', 'tree', 'dog')
PALETTE = ((70, 70, 70), (213, 94, 0), (0, 114, 178), (0, 158, 115), (240, 228, 66))
HEIGHT, WIDTH = 72, 96
VERSION = 2  # part of the stamp: raise it whenever the drawing changes
SPLITS = {'train_labeled': 0, 'train_unlabeled': 1, 'test': 2}

_YY, _XX = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float64) + 0.5


# ------------------------------------------------ signed distances (negative inside)

def _local(cx, cy, angle):
    """Coordinates of every pixel in the frame of a shape at (cx, cy) turned by angle (radians)."""
    dx, dy = _XX - cx, _YY - cy
    cos, sin = np.cos(angle), np.sin(angle)
    return dx * cos + dy * sin, dy * cos - dx * sin


def ellipse(cx, cy, rx, ry, angle=0.0):
    x, y = _local(cx, cy, angle)
    return (np.sqrt((x / rx) ** 2 + (y / ry) ** 2) - 1.0) * min(rx, ry)


def box(cx, cy, half_w, half_h, angle=0.0, corner=0.0):
    x, y = _local(cx, cy, angle)
    qx, qy = np.abs(x) - half_w + corner, np.abs(y) - half_h + corner
    outside = np.sqrt(np.maximum(qx, 0) ** 2 + np.maximum(qy, 0) ** 2)
    return outside + np.minimum(np.maximum(qx, qy), 0) - corner


def capsule(x0, y0, x1, y1, r0, r1=None):
    """A limb: a thick line from (x0, y0) to (x1, y1), its radius going from r0 to r1."""
    r1 = r0 if r1 is None else r1
    ex, ey = x1 - x0, y1 - y0
    t = ((_XX - x0) * ex + (_YY - y0) * ey) / max(ex * ex + ey * ey, 1e-6)
    t = np.clip(t, 0, 1)
    return np.sqrt((_XX - x0 - t * ex) ** 2 + (_YY - y0 - t * ey) ** 2) - (r0 + (r1 - r0) * t)


def polygon(points):
    """A convex polygon, corners in clockwise order on the screen."""
    distance = np.full((HEIGHT, WIDTH), -np.inf)
    for (x0, y0), (x1, y1) in zip(points, points[1:] + points[:1]):
        ex, ey = x1 - x0, y1 - y0
        length = max(np.hypot(ex, ey), 1e-6)
        distance = np.maximum(distance, ((_XX - x0) * ey - (_YY - y0) * ex) / length)
    return distance


# ------------------------------------------------ textures and colours

def noise_field(rng, cells):
    """Smooth noise in [-1, 1]: a random grid with about `cells` cells a side, interpolated."""
    rows, cols = cells + 2, int(cells * WIDTH / HEIGHT) + 2
    grid = rng.uniform(-1, 1, (rows, cols))
    y, x = _YY[:, 0] / HEIGHT * cells, _XX[0] / WIDTH * (cols - 2)
    iy, ix = y.astype(int), x.astype(int)
    fy, fx = (y - iy)[:, None], (x - ix)[None, :]
    top = grid[iy][:, ix] * (1 - fx) + grid[iy][:, ix + 1] * fx
    bottom = grid[iy + 1][:, ix] * (1 - fx) + grid[iy + 1][:, ix + 1] * fx
    return top * (1 - fy) + bottom * fy


def texture(rng, strength):
    """One of several patterns, (H, W), to be added to a colour."""
    kind = rng.integers(5)
    if kind == 0:
        return strength * noise_field(rng, int(rng.integers(4, 10)))
    if kind == 1:
        return strength * (noise_field(rng, 6) + noise_field(rng, 24)) * 0.7
    if kind == 2:  # stripes
        x, _ = _local(0, 0, rng.uniform(0, np.pi))
        return strength * 0.7 * np.sign(np.sin(x * rng.uniform(0.4, 1.4)))
    if kind == 3:  # bricks or tiles
        side = rng.uniform(5, 12)
        row = np.floor(_YY / side)
        joint = ((_YY % side) < 1.2) | (((_XX + (row % 2) * side) % (2 * side)) < 1.2)
        return -strength * joint
    return strength * rng.uniform(-1, 1, (HEIGHT, WIDTH))


def any_colour(rng, low=25, high=235):
    return rng.uniform(low, high, 3)


def muted(rng):
    """A colour of plaster, asphalt, earth or haze: some grey level with little saturation."""
    return near(rng, [rng.uniform(80, 190)] * 3, 12)


def near(rng, colour, spread):
    return np.clip(np.asarray(colour, float) + rng.uniform(-spread, spread, 3), 8, 247)


class Canvas:
    """The image (H, W, 3) float and the label map (H, W) that are painted together."""

    def __init__(self):
        self.image = np.zeros((HEIGHT, WIDTH, 3))
        self.label = np.zeros((HEIGHT, WIDTH), np.uint8)

    def paint(self, distance, colour, label, pattern=None):
        """Paint where distance < 0. With label None the label map is left as it is."""
        rows = np.flatnonzero((distance < 0.5).any(1))
        cols = np.flatnonzero((distance < 0.5).any(0))
        if not len(rows) or not len(cols):
            return
        win = np.s_[rows[0]:rows[-1] + 1, cols[0]:cols[-1] + 1]
        cover = np.clip(0.5 - distance[win], 0, 1)[..., None]
        fill = np.asarray(colour, float)[None, None]
        if pattern is not None:
            fill = fill + pattern[win][..., None]
        self.image[win] += cover * (fill - self.image[win])
        if label is not None:
            self.label[win][distance[win] < 0] = label


# ------------------------------------------------ objects, built from parts

SKIN = ((224, 180, 150), (150, 100, 70), (90, 60, 45))
SHIRTS = ((205, 60, 60), (150, 70, 170), (230, 205, 70), (70, 165, 120))
TROUSERS = ((50, 65, 110), (45, 45, 50), (120, 95, 70))
CAR_COLOURS = ((190, 40, 40), (45, 75, 170), (215, 215, 220))
BARK = ((95, 70, 50), (130, 120, 110), (60, 50, 45))
LEAVES = ((50, 110, 45), (95, 130, 40), (60, 140, 80), (165, 130, 35))
FUR = ((150, 100, 55), (215, 180, 130), (190, 120, 55))


def draw_person(canvas, rng, x, foot, size):
    """Head (with hair), body, two arms and two legs; size is the height."""
    cls, tall = CLASSES.index('person'), size
    lean, stride = rng.uniform(-0.06, 0.06) * tall, rng.uniform(0.02, 0.15) * tall
    hip, neck = foot - 0.45 * tall, foot - 0.80 * tall
    width = rng.uniform(0.11, 0.15) * tall
    skin = near(rng, SKIN[rng.integers(len(SKIN))], 20)
    trousers = near(rng, TROUSERS[rng.integers(len(TROUSERS))], 20)
    shirt = near(rng, SHIRTS[rng.integers(len(SHIRTS))], 30)
    cloth = texture(rng, rng.uniform(3, 22))
    thick = 0.055 * tall
    for side in (-1, 1):
        ankle = x + side * stride
        canvas.paint(capsule(x + side * 0.4 * width, hip, ankle, foot - thick,
                             thick * 1.2, thick * 0.9), trousers, cls)
        canvas.paint(ellipse(ankle + 0.02 * tall, foot - 0.03 * tall, 0.06 * tall, 0.03 * tall),
                     any_colour(rng, 10, 120), cls)
        hand_x = x + lean + side * rng.uniform(1.2, 2.6) * width
        hand_y = hip - rng.uniform(-0.05, 0.35) * tall
        canvas.paint(capsule(x + lean + side * 0.8 * width, neck + 0.07 * tall, hand_x, hand_y,
                             0.045 * tall, 0.035 * tall), shirt, cls)
    canvas.paint(capsule(x, hip, x + lean, neck + 0.06 * tall, width, width * 1.05),
                 shirt, cls, cloth)
    head = 0.085 * tall
    canvas.paint(ellipse(x + lean, neck - 0.5 * head, head, head * 1.2), skin, cls)
    if rng.random() < 0.75:
        canvas.paint(np.maximum(ellipse(x + lean, neck - 0.7 * head, head * 1.1, head * 1.25),
                                _YY - (neck - 0.9 * head)), any_colour(rng, 10, 160), cls)


def draw_car(canvas, rng, x, foot, size):
    """Body, cabin, windows, two wheels and a lamp; size is the length."""
    cls, wheel = CLASSES.index('car'), size * rng.uniform(0.085, 0.12)
    paint, side = near(rng, CAR_COLOURS[rng.integers(len(CAR_COLOURS))], 25), rng.choice((-1, 1))
    body_h = size * rng.uniform(0.10, 0.16)
    middle = foot - wheel - body_h * 0.6
    glass = near(rng, (120, 160, 190), 25)
    cabin_h, shift = size * rng.uniform(0.13, 0.22), side * size * rng.uniform(0.0, 0.14)
    top, low = middle - body_h - cabin_h, middle - body_h * 0.6
    half_low, half_top = size * rng.uniform(0.28, 0.36), size * rng.uniform(0.15, 0.27)
    cx = x + shift

    def cabin(scale, drop):
        return polygon([(cx - half_top * scale, top + drop), (cx + half_top * scale, top + drop),
                        (cx + half_low * scale, low), (cx - half_low * scale, low)])

    canvas.paint(cabin(1.0, 0.0), paint, cls)
    canvas.paint(cabin(0.82, 0.22 * cabin_h), glass, cls, texture(rng, 12))
    canvas.paint(box(cx, (top + low) / 2, max(0.015 * size, 0.7), (low - top) / 2), paint, cls)
    canvas.paint(box(x, middle, size * 0.5, body_h, corner=body_h * 0.6), paint, cls,
                 texture(rng, rng.uniform(0, 22)))
    canvas.paint(ellipse(x + side * size * 0.46, middle - 0.2 * body_h, 0.03 * size, 0.3 * body_h),
                 near(rng, (240, 220, 150), 15), cls)
    rim = any_colour(rng, 90, 220)
    for end in (-1, 1):
        wx = x + end * size * 0.30
        canvas.paint(ellipse(wx, foot - wheel, wheel, wheel), near(rng, (28, 28, 30), 14), cls)
        canvas.paint(ellipse(wx, foot - wheel, wheel * 0.5, wheel * 0.5), rim, cls)


def draw_tree(canvas, rng, x, foot, size):
    """Trunk and crown: round, layered (conifer) or bare-ish; size is the height."""
    cls, trunk_h = CLASSES.index('tree'), size * rng.uniform(0.25, 0.5)
    bark = near(rng, BARK[rng.integers(len(BARK))], 25)
    leaf = near(rng, LEAVES[rng.integers(len(LEAVES))], 25)
    leaves = noise_field(rng, 30) * rng.uniform(15, 45) + noise_field(rng, 10) * 15
    bend, thick = rng.uniform(-0.08, 0.08) * size, size * rng.uniform(0.03, 0.055)
    canvas.paint(capsule(x, foot, x + bend, foot - trunk_h * 1.15, thick * 1.2, thick * 0.8),
                 bark, cls, texture(rng, 18))
    cx, base, rise = x + bend, foot - trunk_h, size - trunk_h
    if rng.random() < 0.4:
        wide, layers = size * rng.uniform(0.18, 0.28), int(rng.integers(2, 5))
        for i in range(layers):
            bottom = base - rise * i / (layers + 0.6)
            half = wide * (1 - 0.6 * i / layers)
            peak = bottom - rise * 1.6 / (layers + 0.6)
            canvas.paint(polygon([(cx, peak), (cx + half, bottom), (cx - half, bottom)]),
                         leaf - 6 * (i % 2), cls, leaves)
        return
    wide = size * rng.uniform(0.18, 0.34)
    for _ in range(int(rng.integers(3, 8))):
        at_x, at_y = cx + rng.uniform(-0.5, 0.5) * wide, base - rise * rng.uniform(0.25, 0.7)
        canvas.paint(ellipse(at_x, at_y, wide * rng.uniform(0.55, 0.9),
                             rise * rng.uniform(0.25, 0.42)), near(rng, leaf, 14), cls, leaves)


def draw_dog(canvas, rng, x, foot, size):
    """Body, head with muzzle and ear, four legs and a tail; size is the length."""
    cls, side = CLASSES.index('dog'), rng.choice((-1, 1))
    fur = near(rng, FUR[rng.integers(len(FUR))], 22)
    coat = noise_field(rng, 16) * rng.uniform(3, 22)
    leg_h, thick = size * rng.uniform(0.28, 0.42), size * 0.05
    back = foot - leg_h - 0.12 * size
    for at in (-0.30, -0.20, 0.18, 0.28):
        step = rng.uniform(-0.07, 0.07) * size
        canvas.paint(capsule(x + at * size, back, x + at * size + step, foot - thick,
                             thick * 1.2, thick * 0.8), fur * rng.uniform(0.75, 1.0), cls)
    canvas.paint(capsule(x - side * 0.33 * size, back - 0.05 * size, x - side * 0.52 * size,
                         back - rng.uniform(-0.1, 0.3) * size, 0.04 * size, 0.025 * size), fur, cls)
    canvas.paint(capsule(x - side * 0.26 * size, back, x + side * 0.26 * size, back,
                         0.14 * size, 0.15 * size), fur, cls, coat)
    hx, hy = x + side * 0.42 * size, back - rng.uniform(0.08, 0.28) * size
    canvas.paint(capsule(x + side * 0.26 * size, back - 0.04 * size, hx, hy,
                         0.09 * size, 0.08 * size), fur, cls)
    canvas.paint(ellipse(hx, hy, 0.13 * size, 0.11 * size), fur, cls, coat)
    canvas.paint(capsule(hx, hy + 0.03 * size, hx + side * 0.16 * size, hy + 0.05 * size,
                         0.06 * size, 0.05 * size), near(rng, fur, 25), cls)
    canvas.paint(ellipse(hx - side * 0.05 * size, hy - 0.08 * size, 0.045 * size, 0.09 * size,
                         rng.uniform(-0.6, 0.6)), fur * 0.6, cls)


# name -> (function, size when far, size when near), in pixels
DRAW = {'person': (draw_person, 40, 69), 'car': (draw_car, 44, 76),
        'tree': (draw_tree, 45, 78), 'dog': (draw_dog, 36, 60)}


# ------------------------------------------------ a scene

def _distractor(kind, x, y, a, b, turn):
    if kind == 0:
        return ellipse(x, y, a, b, turn)
    if kind == 1:
        return box(x, y, a, b, turn)
    if kind == 2:  # a pole, like a trunk
        return box(x, y, 1.5 + a / 9, b * 2)
    return polygon([(x, y - b), (x + a, y + b), (x - a, y + b)])


def _background(canvas, rng):
    """A wall or sky over a ground, and distractors that have the objects' colours and shapes."""
    horizon = rng.uniform(0.25, 0.65) * HEIGHT
    far = _YY < horizon + noise_field(rng, 3) * rng.uniform(0, 8)
    for where in (far, ~far):
        fill = muted(rng) + texture(rng, rng.uniform(2, 12))[..., None]
        fill = fill + noise_field(rng, 2)[..., None] * rng.uniform(0, 25)
        canvas.image[where] = fill[where]
    for _ in range(int(rng.integers(1, 5))):
        x, y = rng.uniform(0, WIDTH), rng.uniform(0, HEIGHT)
        a, b, turn = rng.uniform(3, 13), rng.uniform(3, 13), rng.uniform(-0.5, 0.5)
        shape = _distractor(rng.integers(4), x, y, a, b, turn)
        colour = any_colour(rng) if rng.random() < 0.15 else muted(rng)
        canvas.paint(shape, colour, None, texture(rng, rng.uniform(0, 30)))
        if rng.random() < 0.3:  # a smaller thing on top: a window, a hub, a patch
            canvas.paint(ellipse(x, y, a * 0.4, b * 0.4), any_colour(rng), None)
    return horizon


def _camera(image, rng):
    """Uneven light, colour cast, contrast, blur and sensor noise; float (H, W, 3) -> uint8."""
    image = image * (1 + 0.2 * rng.uniform(0, 1) * noise_field(rng, 2)[..., None])
    if rng.random() < 0.3:  # a cast shadow
        x, _ = _local(rng.uniform(0, WIDTH), rng.uniform(0, HEIGHT), rng.uniform(0, np.pi))
        inside = np.abs(x) < rng.uniform(4, 18)
        image = image * np.where(inside, rng.uniform(0.65, 0.9), 1.0)[..., None]
    image = np.clip(image * rng.uniform(0.94, 1.06, 3), 0, 255)
    image = 255 * (image / 255) ** rng.uniform(0.85, 1.2)
    image = (image - 128) * rng.uniform(0.85, 1.1) + 128 + rng.uniform(-10, 10)
    weight = rng.uniform(0.0, 0.28)  # 3-tap blur in both directions
    for axis in (0, 1):
        pad = np.pad(image, [(1, 1) if i == axis else (0, 0) for i in range(3)], mode='edge')
        left, right = (pad[:-2], pad[2:]) if axis == 0 else (pad[:, :-2], pad[:, 2:])
        image = image * (1 - 2 * weight) + weight * (left + right)
    image = image + rng.normal(0, rng.uniform(2, 7), image.shape)
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def draw_scene(seed, split, index):
    """One image: (H, W, 3) uint8 RGB, and its label map (H, W) uint8; split is a key of SPLITS."""
    rng = np.random.default_rng([seed, SPLITS[split], index])
    canvas = Canvas()
    horizon = _background(canvas, rng)
    names = list(DRAW)
    feet = np.sort(rng.uniform(horizon + 5, HEIGHT + 6, int(rng.integers(2, 5))))
    kinds = rng.integers(len(names), size=len(feet))
    kinds[rng.integers(len(feet))] = index % len(names)  # so that a few images show every class
    for foot, kind in zip(feet, kinds):  # far ones first, so that near ones occlude them
        draw, small, large = DRAW[names[kind]]
        nearness = (foot - horizon) / (HEIGHT + 6 - horizon)
        size = small + (large - small) * np.clip(0.75 * nearness + rng.uniform(-0.1, 0.3), 0, 1)
        draw(canvas, rng, rng.uniform(0, WIDTH), foot, size)
    return _camera(canvas.image, rng), canvas.label


# ------------------------------------------------ files

def _write(path, array):
    from PIL import Image
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def _stamp_in(path) -> dict:
    """What a finished drawing says of itself; {} where there is no such file."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def make_dataset(out, seed=0, labeled=10, unlabeled=300, test=120):
    """Draw the data set into `out` and return its Path; a folder with the same stamp is left alone.

    Raises FileExistsError if `out` holds something that this function did not write.
    """
    out = Path(out)
    stamp = dict(version=VERSION, seed=seed, labeled=labeled, unlabeled=unlabeled, test=test)
    marker = out / 'stamp.json'
    found = _stamp_in(marker)
    if found == stamp:
        return out
    if out.exists():
        ours = found.keys() == stamp.keys() or (out / '.drawing').exists()
        if not ours and (not out.is_dir() or any(out.iterdir())):
            raise FileExistsError(f'{out} exists and was not written by the demo: '
                                  'remove it or name another folder with --out')
        shutil.rmtree(out)
    out.mkdir(parents=True)
    (out / '.drawing').touch()  # lets a run that was cut short be redone
    counts = dict(train_labeled=labeled, train_unlabeled=unlabeled, test=test)
    for split, count in counts.items():
        folder, prefix = ('test', 'test') if split == 'test' else ('train', split[6:])
        stems = [f'{prefix}_{i:04d}' for i in range(count)]
        for i, stem in enumerate(stems):
            image, label = draw_scene(seed, split, i)
            _write(out / 'images' / folder / f'{stem}.png', image)
            if split != 'train_unlabeled':
                _write(out / 'masks' / folder / f'{stem}.png', label)
        if split != 'test':
            (out / f'{prefix}.txt').write_text('\n'.join(stems) + '\n')
    marker.write_text(json.dumps(stamp) + '\n')
    (out / '.drawing').unlink()
    return out


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('out')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--labeled', type=int, default=10)
    parser.add_argument('--unlabeled', type=int, default=300)
    parser.add_argument('--test', type=int, default=120)
    try:
        print(make_dataset(**vars(parser.parse_args())))
    except OSError as error:
        sys.exit(str(error))
