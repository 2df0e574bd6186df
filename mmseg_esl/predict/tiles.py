"""Sliding windows over a large image, without the logits of all of it.

mmseg's ``test_cfg.mode='slide'`` keeps C x H x W logits, three times over. Here one row of windows
is kept: what no later window touches is averaged, resized and turned into classes at once.
"""
from __future__ import annotations

import torch
from mmseg.models.utils import resize
from torch import Tensor

from ..looks.windows import places


@torch.no_grad()
def tiled_classes(segmentor, inputs: Tensor, meta: dict, tile: tuple, stride: tuple,
                  batch: int = 1) -> Tensor:
    """What mmseg's slide mode with ``crop_size=tile`` and ``stride`` predicts for one image.

    Args:
        segmentor: with mmseg's ``encode_decode``.
        inputs: ``(1, 3, H, W)`` float, preprocessed, on the segmentor's device.
        meta: the image's, with ``ori_shape``.
        tile: (height, width) of a window; one that is larger than the image shrinks to it.
        stride: (vertical, horizontal) step, at most the tile.
        batch: windows in one forward.

    Returns:
        ``ori_shape`` int32 on the CPU, class indices.
    """
    height, width = inputs.shape[-2:]
    rows, columns = places(height, tile[0], stride[0]), places(width, tile[1], stride[1])
    classes = Classes(segmentor, (height, width), meta)
    logits, count = None, None
    top = 0
    for y1, y2 in rows:
        if logits is not None:  # rows above y1 are complete
            classes.add(logits[:, :y1 - top] / count[:, :y1 - top])
            logits, count = _shift(logits, y1 - top), _shift(count, y1 - top)
            top = y1
        for start in range(0, len(columns), batch):
            several = columns[start:start + batch]
            crops = torch.cat([inputs[:, :, y1:y2, x1:x2] for x1, x2 in several])
            # mmseg takes the size from a torch.Size: that is how its heads know a window
            metas = [dict(meta, img_shape=crops.shape[2:])] * len(several)
            found = segmentor.encode_decode(crops, metas)
            if logits is None:
                logits = found.new_zeros(found.shape[1], y2 - y1, width)
                count = found.new_zeros(1, y2 - y1, width)
            for (x1, x2), one in zip(several, found):
                logits[:, :, x1:x2] += one
                count[:, :, x1:x2] += 1
    classes.add(logits / count)
    return classes.done


def _shift(x: Tensor, rows: int) -> Tensor:
    """Drop the first rows, and add as many zeros at the end."""
    return torch.cat([x[:, rows:], torch.zeros_like(x[:, :rows])], dim=1)


class Classes:
    """Takes average logits from top to bottom; cuts padding off, resizes and decides.

    As ``BaseSegmentor.postprocess_result``, whose bilinear resize is done for those rows of the
    result whose two source rows are there.

    Args:
        segmentor: for ``align_corners`` and, with one channel, the head's threshold.
        size: (H, W) of the logits with padding.
        meta: ``ori_shape`` and, where the preprocessor padded, ``padding_size``.
    """

    def __init__(self, segmentor, size: tuple, meta: dict) -> None:
        self.segmentor, self.align = segmentor, segmentor.align_corners
        left, right, top, bottom = meta.get('img_padding_size',
                                            meta.get('padding_size', [0] * 4))
        self.columns = slice(left, size[1] - right)
        self.seen, self.first, self.end = 0, top, size[0] - bottom  # of the padded rows
        self.done = torch.zeros(meta['ori_shape'], dtype=torch.int32)
        self.written = 0
        self.upper, self.lower, self.weight = source_rows(
            self.done.shape[0], self.end - self.first, self.align)
        self.kept, self.kept_from = None, 0  # rows that later ones need, without padding

    def add(self, logits: Tensor) -> None:
        """The next rows: ``(C, rows, W)``."""
        begin = max(self.first - self.seen, 0)
        end = self.end - self.seen
        self.seen += logits.shape[1]
        logits = logits[:, begin:max(end, 0), self.columns]
        if not logits.shape[1]:
            return
        self.kept = logits if self.kept is None else torch.cat([self.kept, logits], dim=1)
        known = self.kept_from + self.kept.shape[1]
        until = int((self.lower < known).sum())
        if until > self.written:
            self._write(slice(self.written, until))
        if until < len(self.upper):
            unused = int(self.upper[until]) - self.kept_from
            self.kept, self.kept_from = self.kept[:, unused:], self.kept_from + unused

    def _write(self, rows: slice) -> None:
        device = self.kept.device
        weight = self.weight[rows].to(device)[None, :, None]
        upper = self.kept[:, (self.upper[rows] - self.kept_from).to(device)]
        lower = self.kept[:, (self.lower[rows] - self.kept_from).to(device)]
        mixed = (1 - weight) * upper + weight * lower
        mixed = resize(mixed[None], size=(mixed.shape[1], self.done.shape[1]), mode='bilinear',
                       align_corners=self.align, warning=False)[0]
        if len(mixed) > 1:
            found = mixed.argmax(dim=0)
        else:
            found = (mixed.sigmoid() > self.segmentor.decode_head.threshold)[0]
        self.done[rows] = found.to('cpu', torch.int32)
        self.written = rows.stop


def source_rows(out: int, size: int, align_corners: bool) -> tuple:
    """Bilinear resizing along one side: ``(out,)`` upper and lower row, and the lower's weight.

    As torch's ``interpolate``, which computes in float32.
    """
    index = torch.arange(out, dtype=torch.float32)
    if align_corners:
        source = index * ((size - 1) / (out - 1) if out > 1 else 0)
    else:
        source = ((index + 0.5) * (torch.tensor(float(size)) / out) - 0.5).clamp(min=0)
    upper = source.long().clamp(max=size - 1)
    return upper, (upper + 1).clamp(max=size - 1), source - upper
