"""The plain segmentor as an ONNX graph that takes images as they are."""
from __future__ import annotations

import inspect
import json
import tempfile
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from ..models.probe import in_channels
from ..storage.atomic import atomic_file
from ..storage.config import kind
from .masks import pipeline_of

OPSET = 18
INPUT, LOGITS, CLASSES = 'image', 'logits', 'classes'
POOLS = (nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)


class Deployed(nn.Module):
    """Image in, logits or classes out: the preprocessor and the segmentor in one forward.

    A window of mmseg's slide mode is what it predicts at once; nothing is padded and no image is
    resized.

    Args:
        segmentor: with mmseg's ``encode_decode`` and SegDataPreProcessor.
        argmax: give classes in place of logits.

    Raises:
        ValueError: a segmentor without ``encode_decode``.
    """

    def __init__(self, segmentor, argmax: bool = False) -> None:
        super().__init__()
        pre = segmentor.data_preprocessor
        if not hasattr(segmentor, 'encode_decode'):
            raise ValueError(f'{type(segmentor).__name__} has no encode_decode and cannot be '
                             'exported')
        self.segmentor, self.argmax = segmentor, argmax
        self.channels = in_channels(segmentor)
        # mmseg's loader gives BGR, which the preprocessor may turn round
        self.order = ('as loaded' if self.channels != 3 else
                      'RGB' if pre.channel_conversion else 'BGR')
        # many bands are seldom of 8 bits
        self.dtype = torch.uint8 if self.channels in (1, 3) else torch.float32
        one = torch.ones(self.channels, 1, 1)
        normalize = pre._enable_normalize
        self.register_buffer('mean', pre.mean.clone() if normalize else 0 * one)
        self.register_buffer('std', pre.std.clone() if normalize else one)
        self.eval()

    def forward(self, image: Tensor) -> Tensor:
        """``(N, 3, H, W)`` uint8, RGB -> logits ``(N, C, H, W)`` float32 or ``(N, H, W)`` int64.

        Images of one channel are grey; of two, four or more float32, as the loader gives them.
        """
        x = image.flip(1) if self.order == 'BGR' else image
        x = (x.float() - self.mean) / self.std
        size = x.shape[-2:]
        # one for all: as many as images would fix their number in the graph
        metas = [dict(img_shape=size, ori_shape=size, pad_shape=size)]
        logits = self.segmentor.encode_decode(x, metas)
        if not self.argmax:
            return logits
        if logits.shape[1] > 1:
            return logits.argmax(dim=1)
        return (logits.sigmoid() > self.segmentor.decode_head.threshold)[:, 0].long()


def export(deployed: Deployed, path, size: tuple | None) -> None:
    """Write an ONNX file, with what a user must know in its metadata.

    Args:
        deployed: in eval mode, on the CPU.
        path: file to write; it is there completely or not at all.
        size: (H, W) of the images, any number of them; None: any size too.

    Raises:
        RuntimeError: the network cannot be exported, or not with sizes left open.
        ImportError: onnx (and onnxscript, for torch 2.6 and newer) are missing.
    """
    import onnx

    if size is None:
        _refuse_grids(deployed)
    # not the size that an open one is likely to have, and odd parts show what was taken as fixed
    image = noise(deployed, 2, size or (136, 200))
    with tempfile.TemporaryDirectory() as folder:
        draft = Path(folder) / 'draft.onnx'
        try:
            with torch.no_grad(), warnings.catch_warnings():
                warnings.simplefilter('ignore')  # the exporters' own, about each other
                _export(deployed, image, str(draft), size)
        except Exception as error:
            hint = '' if size else ' with any size: try a fixed one (--size H W)'
            raise RuntimeError(f'{type(deployed.segmentor.decode_head).__name__} cannot be '
                               f'exported{hint}. torch says: {error}') from error
        model = onnx.load(str(draft))
    onnx.helper.set_model_props(model, metadata(deployed, size))
    onnx.checker.check_model(model)
    with atomic_file(path) as file:
        file.write(model.SerializeToString())


def noise(deployed: Deployed, number: int, size) -> Tensor:
    """``(number, D, H, W)`` random images as the graph takes them."""
    return torch.randint(0, 256, (number, deployed.channels, *size)).to(deployed.dtype)


def _refuse_grids(deployed) -> None:
    """Pooling to a fixed grid: torch exports it with any size, and it fails at some of them."""
    for name, module in deployed.segmentor.named_modules():
        grid = getattr(module, 'output_size', None)
        if isinstance(module, POOLS) and grid not in (1, (1, 1)):
            raise RuntimeError(f"'{name}' pools to a grid of {grid} and cannot be exported with "
                               'any size: give a fixed one (--size H W)')


def _export(deployed, image, path: str, size) -> None:
    axes = {0: 'batch'} if size else {0: 'batch', 2: 'height', 3: 'width'}
    output = CLASSES if deployed.argmax else LOGITS
    common = dict(input_names=[INPUT], output_names=[output], opset_version=OPSET)
    if 'dynamic_shapes' in inspect.signature(torch.onnx.export).parameters and _newer():
        shapes = {axis: torch.export.Dim(name, min=1) if axis == 0 else torch.export.Dim.DYNAMIC
                  for axis, name in axes.items()}
        torch.onnx.export(deployed, (image, ), path, dynamo=True, external_data=False,
                          dynamic_shapes=(shapes, ), verbose=False, **common)
    else:
        kept = axes if not deployed.argmax else {
            axis - (axis > 0): name for axis, name in axes.items()}
        torch.onnx.export(deployed, (image, ), path,
                          dynamic_axes={INPUT: axes, output: kept}, **common)


def _newer() -> bool:
    """Whether torch's newer exporter is ready for this: from 2.6 on."""
    return tuple(int(part) for part in torch.__version__.split('.')[:2]) >= (2, 6)


def metadata(deployed: Deployed, size: tuple | None) -> dict:
    """What is written into the model: text by text."""
    meta = deployed.segmentor.dataset_meta
    shape = f'{size[0]} x {size[1]}' if size else 'H x W'
    kind = {1: 'uint8, grey, 0..255', 3: 'uint8, RGB, 0..255'}.get(deployed.channels, 'float32')
    return {
        'input': (f'{INPUT}: N x {deployed.channels} x {shape} {kind}, as decoded; normalised '
                  'inside'),
        'output': (f'{CLASSES}: class indices, N x H x W int64' if deployed.argmax else
                   f'{LOGITS}: N x C x H x W float32, of the size of the input'),
        'resize': json.dumps(resize_rule(deployed.segmentor, size)[0]),
        'network_order': deployed.order,
        'mean': json.dumps(deployed.mean.flatten().tolist()),
        'std': json.dumps(deployed.std.flatten().tolist()),
        'classes': json.dumps(list(meta['classes'])),
        'palette': json.dumps(meta['palette']),
    }


def resize_rule(segmentor, size: tuple | None) -> tuple[dict, list]:
    """How an image is resized before the network, and what else its test pipeline does to it.

    A network that sees images at another size than it was trained for loses small classes.

    Args:
        segmentor: with the ``cfg`` that it was built from; without one nothing is known.
        size: (H, W) of the graph, or None for any.

    Returns:
        ``{'size': [H, W]}``; ``{'within': [long, short]}``, the sides of the largest size of the
        image's own ratio that fits; ``{'factor': times}``; or {} for the image as it is. And the
        names of the other steps, of which the graph does none.
    """
    try:
        steps = pipeline_of(segmentor.cfg)
    except (AttributeError, ValueError):
        steps = []
    rule, others = {}, []
    for step in steps:
        name = kind(step)
        if name == 'Resize' and not rule:
            rule = _rule(step)
        elif not name.startswith(('Load', 'Pack')):
            others.append(name)
    return (dict(size=list(size)) if size else rule), others


def _rule(step: dict) -> dict:
    scale, factor = step.get('scale'), step.get('scale_factor')
    if scale is None:  # mmcv takes one of the two
        return dict(factor=factor) if factor else {}
    width, height = (scale, scale) if isinstance(scale, int) else scale
    if step.get('keep_ratio'):
        return dict(within=[max(width, height), min(width, height)])
    return dict(size=[height, width])


def compare(deployed: Deployed, path, images: list) -> tuple:
    """(largest difference of logits, share of equal classes) of onnxruntime and torch.

    Args:
        deployed: what was exported, in eval mode.
        path: of the ONNX file.
        images: tensors as :func:`noise` gives them.

    Returns:
        Difference relative to the largest logit (nan for a graph of classes), and the share.

    Raises:
        RuntimeError: onnxruntime fails, or gives another shape.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
    differences, equal, total = [], 0, 0
    for image in images:
        with torch.no_grad():
            wanted = deployed(image)
        try:
            found = torch.from_numpy(session.run(None, {INPUT: image.numpy()})[0])
        except Exception as error:
            raise RuntimeError(f'onnxruntime fails on images of {tuple(image.shape)}: {error}'
                               ) from error
        if found.shape != wanted.shape:
            raise RuntimeError(f'{path} gives {tuple(found.shape)} for images of '
                               f'{tuple(image.shape)}, torch {tuple(wanted.shape)}')
        if not deployed.argmax:
            differences.append((found - wanted).abs().max() / wanted.abs().max())
            found, wanted = found.argmax(dim=1), wanted.argmax(dim=1)
        equal, total = equal + (found == wanted).sum().item(), total + found.numel()
    worst = torch.stack(differences).max().item() if differences else float('nan')  # nan stays
    return worst, equal / total
