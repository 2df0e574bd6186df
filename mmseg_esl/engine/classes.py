"""Whether the network and the data mean the same classes."""
from __future__ import annotations


def class_mismatch(dataset, heads: dict, which: str = 'labelled') -> str:
    """What is wrong with the number of classes of a data set; '' if nothing is, or none is known.

    Args:
        dataset: with ``num_classes`` (SemiDataset) or ``metainfo['classes']``, if it knows.
        heads: name -> its num_classes, or None, of all heads that are trained.
        which: how to call the set.
    """
    names = (getattr(dataset, 'metainfo', None) or {}).get('classes') or ()
    number = getattr(dataset, 'num_classes', None) or len(names)
    wrong = [(head, known) for head, known in heads.items() if known and known != number]
    if not number or not wrong:
        return ''
    head, known = wrong[0]
    consequence = ('a label beyond the head would end the training' if number > known else
                   'the head would learn classes that do not exist')
    shown = ', '.join(map(str, names[:5])) + (', ...' if len(names) > 5 else '')
    return (f'the {which} set has {number} classes ({shown}), {head}.num_classes is '
            f'{known}: {consequence}')


REMEDY = ('set num_classes of decode_head (and auxiliary_head) to the number of classes, or '
          'metainfo=dict(classes=...) of the data set to those that are meant')
