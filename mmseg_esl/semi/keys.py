"""Keys of a plain segmentor's state dict <-> keys of the teacher-student wrapper's.

The wrapper's state dict holds a plain segmentor's twice, as ``student.*`` and ``teacher.*``, beside
what training needs (``projector.*``, ``part_memory.*``, ...). Everything here works on plain
dictionaries; values are passed on, never copied, and no input is changed.
"""

from __future__ import annotations

import warnings
from collections import OrderedDict

NETWORKS = ('student', 'teacher')
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


def is_wrapper(state_dict: dict) -> bool:
    """Whether the keys are those of the wrapper: both ``student.*`` and ``teacher.*`` are there."""
    keys = strip_module(state_dict)
    return all(any(key.startswith(f'{name}.') for key in keys) for name in NETWORKS)


def to_wrapper(state_dict: dict) -> dict:
    """Give a plain segmentor's tensors to the student and to the teacher.

    Args:
        state_dict: of a plain segmentor, or of the wrapper, which only loses a ``module.`` prefix.

    Returns:
        OrderedDict with ``student.*`` and ``teacher.*``, both naming the same tensors.

    Raises:
        ValueError: the dictionary is empty.
    """
    state_dict = strip_module(state_dict)
    if not state_dict:
        raise ValueError('the state dict is empty: is the file a checkpoint with a state_dict?')
    if is_wrapper(state_dict):
        return state_dict
    return OrderedDict((f'{name}.{key}', value)
                       for name in NETWORKS for key, value in state_dict.items())


def to_plain(state_dict: dict, which: str = 'teacher') -> dict:
    """Take one network out of the wrapper, under the keys of a plain segmentor.

    Args:
        state_dict: of the wrapper.
        which: 'teacher' or 'student'.

    Returns:
        OrderedDict that loads with ``strict=True`` into the segmentor that the wrapper was given.

    Raises:
        ValueError: ``which`` is neither network, or the dictionary is a plain segmentor's.
    """
    if which not in NETWORKS:
        raise ValueError(f"which='{which}' is unknown; choose 'teacher' or 'student'")
    if not is_wrapper(state_dict):
        raise ValueError("this is a plain segmentor's state dict already (it lacks student.* and "
                         'teacher.*): use it as it is')
    prefix = f'{which}.'
    return OrderedDict((key[len(prefix):], value)
                       for key, value in strip_module(state_dict).items()
                       if key.startswith(prefix))


def check_fit(state_dict: dict, model_state_dict: dict, source: str) -> None:
    """Refuse a checkpoint of another architecture, which a non-strict load would ignore silently.

    The backbone has to fit. A head that differs is fine-tuning: it starts from its
    initialisation, with a warning.

    Args:
        state_dict: the checkpoint's, plain or the wrapper's.
        model_state_dict: the model's, plain or the wrapper's.
        source: where the checkpoint comes from, for the message.

    Raises:
        ValueError: tensors of ``backbone.`` are missing or of another shape; names the first few,
            how many there are, and the remedy.
    """
    if is_wrapper(model_state_dict):
        state_dict = to_wrapper(state_dict)
    elif is_wrapper(state_dict):
        state_dict = to_plain(state_dict)
    given, wanted = strip_module(state_dict), strip_module(model_state_dict)

    backbone = [name for name in wanted if _plain_name(name).startswith('backbone.')]
    faults = [fault for fault in (_difference(name, given, wanted) for name in backbone) if fault]
    if faults:
        raise ValueError(_misfit(source, faults, len(backbone), given))
    heads = [name for name in wanted if '_head.' in _plain_name(name)]
    differing = [fault for fault in (_difference(name, given, wanted) for name in heads) if fault]
    if differing:
        classes = _class_counts(given, wanted)
        reason = f' (it was trained for {classes[0]} classes, this model has {classes[1]})' \
            if classes else ''
        warnings.warn(f'{source}: {len(differing)} tensors of the heads do not fit{reason} and '
                      f'start from their initialisation: {_listed(differing)}')


def _plain_name(name: str) -> str:
    """'student.backbone.x' -> 'backbone.x'."""
    first, _, rest = name.partition('.')
    return rest if first in NETWORKS else name


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


def _misfit(source: str, faults: list, total: int, given: dict) -> str:
    """The message for a backbone that does not fit."""
    message = (f'{source} is a checkpoint of another architecture: {len(faults)} of {total} '
               f'tensors of the backbone do not fit: {_listed(faults)}. ')
    if not any(_plain_name(name).startswith('backbone.') for name in given):
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
