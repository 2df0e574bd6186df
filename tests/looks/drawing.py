"""Looks to draw, and what a reader could not read in a figure."""
from __future__ import annotations

from itertools import combinations

import numpy as np
import tiny
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from mmseg_esl.looks import look


def view(num_classes=3, parts=2, size=(32, 32), spread=2.0, variant='dsl+ctr', queue=4):
    """(model, image, Look) of one random image; a larger ``spread`` gives more confident pixels."""
    model = tiny.esl(variant, num_classes=num_classes, parts=parts, queue=queue).eval()
    gen = torch.Generator().manual_seed(1)
    inputs = torch.nn.functional.interpolate(
        torch.randn(1, 3, size[0] // 8, size[1] // 8, generator=gen), size=size, mode='bilinear')
    image = ((inputs[0].permute(1, 2, 0) * 50 + 127).clamp(0, 255)).to(torch.uint8).numpy()
    with torch.no_grad():  # an untrained network sees one class everywhere: give all a chance
        logits, last = model.weak_view(inputs).logits, model.teacher.decode_head.conv_seg
        mean, scale = logits.mean(dim=(0, 2, 3)), spread / logits.std(dim=(0, 2, 3))
        last.weight.mul_(scale[:, None, None, None])
        last.bias.copy_((last.bias - mean) * scale)
    return model, image, look(model, inputs)


def fill(memory, seed=0, empty=()):
    """Random entries in the queues, more in later ones; the named ones stay empty."""
    gen = torch.Generator().manual_seed(seed)
    for part in range(memory.num_queues):
        count = 0 if part in empty else 1 + part % memory.queue_length
        memory.queue[part, :count] = torch.randn(count, memory.queue.shape[-1], generator=gen)
        memory.pushed[part] = count


def pictures_in(figure):
    """The arrays of all maps and images, panel by panel."""
    return [np.asarray(axis.images[0].get_array()) for axis in figure.axes if axis.images]


def words(figure):
    """All visible text."""
    return [text.get_text() for text in texts(figure)]


def texts(figure):
    return [t for t in figure.findobj(Text) if t.get_visible() and t.get_text().strip()]


def check_legible(figure):
    """1000 pixels wide, letters of 8 points at least, none outside, none over another."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    width, height = canvas.get_width_height()
    assert width == 1000 and figure.dpi == 100
    boxes = []
    for text in texts(figure):
        box = text.get_window_extent(canvas.get_renderer())
        assert text.get_fontsize() >= 8, text.get_text()
        assert box.x0 >= -1 and box.y0 >= -1 and box.x1 <= width + 1 and box.y1 <= height + 1, \
            (text.get_text(), box)
        boxes.append((text.get_text(), box))
    for (one, a), (two, b) in combinations(boxes, 2):
        apart = a.x1 <= b.x0 + 1 or b.x1 <= a.x0 + 1 or a.y1 <= b.y0 + 1 or b.y1 <= a.y0 + 1
        assert apart, f'{one!r} lies over {two!r}: {a} {b}'
