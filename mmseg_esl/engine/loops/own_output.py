"""What a validation writes, kept apart by network."""
from __future__ import annotations

import os
from contextlib import contextmanager
from functools import partial


@contextmanager
def own_output(runner, evaluator, network: str):
    """Within the block whatever metrics and visualisers write bears a network's name.

    A metric's ``output_dir`` becomes the folder of that name in it, the file of a DumpResults
    ``NAME_<network>.pkl``, a picture ``<network>_NAME``: the next network would replace them.
    """
    before = []

    def change(thing, key, value):
        before.append((thing, key, key in vars(thing), getattr(thing, key)))
        setattr(thing, key, value)

    for metric in evaluator.metrics:
        if getattr(metric, 'output_dir', None):
            folder = os.path.join(metric.output_dir, network)
            os.makedirs(folder, exist_ok=True)
            change(metric, 'output_dir', folder)
        if getattr(metric, 'out_file_path', None):
            stem, suffix = os.path.splitext(metric.out_file_path)
            change(metric, 'out_file_path', f'{stem}_{network}{suffix}')
    painters = {id(painter): painter for painter in (
        runner.visualizer, *(getattr(hook, '_visualizer', None) for hook in runner.hooks))}
    for painter in painters.values():
        if hasattr(painter, 'add_datasample'):
            change(painter, 'add_datasample', partial(_named, painter.add_datasample, network))
    try:
        yield
    finally:
        for thing, key, own, value in reversed(before):
            if own:
                setattr(thing, key, value)
            else:
                delattr(thing, key)


def _named(add, network: str, name: str, *args, **kwargs):
    return add(f'{network}_{name}', *args, **kwargs)
