"""Whether a checkpoint's tensors are those of a model: names and shapes, on plain dictionaries."""
from __future__ import annotations

import warnings
from collections import OrderedDict

from .errors import Misfit
from .finite_weights import refuse_infinite

_SHOWN = 3  # how many names an error lists before it only counts


def strip_module(state_dict: dict) -> dict:
    """Remove the ``module.`` that DistributedDataParallel puts before every key.

    Args:
        state_dict: name -> tensor.

    Returns:
        OrderedDict without the prefix; keys that lack it stay as they are.
    """
    prefix = 'module.'
    return OrderedDict((key[len(prefix):] if key.startswith(prefix) else key, value)
                       for key, value in state_dict.items())


def check_fit(given: dict, wanted: dict, source: str, networks=(), infinite=()) -> None:
    """Refuse a checkpoint of another architecture, which a non-strict load would ignore silently.

    Backbones have to fit. A head that differs is fine-tuning: it starts from its initialisation,
    with a warning.

    Args:
        given: the checkpoint's state dict. wanted: the model's.
        source: where the checkpoint comes from, for the message.
        networks: names that stand before the keys of whole segmentors; none for a plain one.
        infinite: see :func:`.finite_weights.refuse_infinite`.

    Raises:
        Misfit: tensors of a ``backbone.`` are missing or of another shape; names the first few,
            how many there are, and the remedy. Or some tensor is not finite.
    """
    given, wanted = strip_module(given), strip_module(wanted)
    refuse_infinite(given, wanted, source, infinite)

    def plain(name):  # 'student.backbone.x' -> 'backbone.x'
        first, _, rest = name.partition('.')
        return rest if first in networks else name

    backbone = [name for name in wanted if plain(name).startswith('backbone.')]
    faults = [fault for fault in (_difference(name, given, wanted) for name in backbone) if fault]
    if faults:
        alone = not any(plain(name).startswith('backbone.') for name in given)
        raise Misfit(_misfit(source, faults, len(backbone), alone))
    heads = [name for name in wanted if '_head.' in plain(name)]
    differing = [fault for fault in (_difference(name, given, wanted) for name in heads) if fault]
    if differing:
        classes = _class_counts(given, wanted)
        reason = f' (it was trained for {classes[0]} classes, this model has {classes[1]})' \
            if classes else ''
        warnings.warn(f'{source}: {len(differing)} tensors of the heads do not fit{reason} and '
                      f'start from their initialisation: {_listed(differing)}')


def _difference(name: str, given: dict, wanted: dict) -> str:
    """How one tensor of the model differs from the checkpoint's; '' when it fits."""
    if name not in given:
        # checkpoints older than torch 0.4.1 do not count batches; nothing depends on the count
        return '' if name.endswith('num_batches_tracked') else f'{name} (missing)'
    have, want = tuple(given[name].shape), tuple(wanted[name].shape)
    return '' if have == want else f'{name} (is {have}, should be {want})'


def _listed(faults: list) -> str:
    """The first few of a list in one line."""
    more = len(faults) - _SHOWN
    return ', '.join(faults[:_SHOWN]) + (f' and {more} more' if more > 0 else '')


def _misfit(source: str, faults: list, total: int, alone: bool) -> str:
    """The message for a backbone that does not fit; ``alone``: the file has no 'backbone.'."""
    message = (f'{source} is a checkpoint of another architecture: {len(faults)} of {total} '
               f'tensors of the backbone do not fit: {_listed(faults)}. ')
    if alone:
        return message + ("It holds no backbone.* at all: the weights of a backbone alone belong "
                          "into the backbone's init_cfg, not into load_from.")
    return message + ('Give load_from a checkpoint of the same backbone (type and depth), or set '
                      'model.segmentor.backbone to the one that the checkpoint was trained with.')


def _class_counts(given: dict, wanted: dict):
    """(checkpoint's, model's) number of classes where conv_seg tells them apart, else None."""
    for name, tensor in wanted.items():
        if name.endswith('decode_head.conv_seg.weight') and name in given:
            have, want = given[name].shape[0], tensor.shape[0]
            return (have, want) if have != want else None
    return None
