"""Two processes that share images and classes, and what one says to the other."""
import forked
import numpy as np
import pytest
import tiny
from mmengine.dist import get_rank
from test_part_init import features_by_class

from mmseg_esl import stack
from mmseg_esl.engine.hooks.part_init_hook import PartInitHook
from mmseg_esl.engine.ranks import on_main, raise_together

WRAPPER = dict(type='MMDistributedDataParallel', broadcast_buffers=False, device_ids=None)


def fail():
    raise KeyError('of rank 0')


def talk(rank: int) -> None:
    assert on_main(lambda: f'from {get_rank()}') == 'from 0'
    with pytest.raises(RuntimeError if rank else KeyError, match='of rank 0') as caught:
        on_main(fail)
    assert ('rank 0 failed, and all ranks stop with it: KeyError' in str(caught.value)) == rank
    raise_together(None, 'nothing')
    with pytest.raises(OSError if rank else RuntimeError, match='^another rank failed while '
                       'reading; its log says why$' if not rank else '^mine$'):
        raise_together(OSError('mine') if rank else None, 'reading')


def sample(folder) -> None:
    """Of each of three classes both ranks keep two pixels together, which are its two parts."""
    stack.start_gloo('pytorch', timeout=120)
    talk(get_rank())
    data = folder / f'data{get_rank()}'
    tiny.write_data(data, labeled=4)
    runner = tiny.runner(folder, data, [], launcher='pytorch', cfg=dict(model_wrapper_cfg=WRAPPER))
    model = runner.model.module
    with tiny.quiet():
        model.init_weights()
    found, mask, absent = PartInitHook(max_samples=2)._prototypes(runner, model.part_memory)
    assert mask.all() and not absent
    for c, feats in features_by_class(model, data, names=[f'a{i}' for i in range(4)]).items():
        for row in found[c]:
            assert np.abs(feats - row).max(axis=1).min() < 1e-4, c
        assert np.abs(found[c][0] - found[c][1]).max() > 1e-4
    print(f'rank {get_rank()} ok')


def test_two_ranks_keep_one_sample(tmp_path):
    said = forked.on_ranks(sample, tmp_path, timeout=300)
    assert 'rank 0 ok' in said and 'rank 1 ok' in said
