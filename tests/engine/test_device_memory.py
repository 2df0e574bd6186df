"""A GPU that is too small is an error with a remedy; tests/gpu fills a real one."""
import pytest
import tiny
import torch
from mmengine.hooks import Hook

from mmseg_esl.engine.device_memory import memory_explained

TORCHS = 'CUDA out of memory. Tried to allocate 2.00 GiB.\nA second line.'


class Full(Hook):
    """Torch's error from within an iteration of a kind."""

    def __init__(self, kind: str):
        setattr(self, f'before_{kind}_iter', self.fill)

    def fill(self, *args, **kwargs):
        raise torch.cuda.OutOfMemoryError(TORCHS)


@pytest.mark.parametrize('kind, words', [
    ('train', r'a step of 4 images: .*batch_size.*num_labeled.*--amp.*crop_size'),
    ('val', r"an image of the validation: .*val_dataloader\.batch_size=1.*mode='slide'")])
def test_the_remedy_is_named(tmp_path, kind, words):
    tiny.write_data(tmp_path / 'data')
    loops = dict(train_cfg=dict(type='SemiTrainLoop', max_iters=1, val_interval=1), val=True,
                 val_cfg=dict(type='SemiValLoop'))
    with pytest.raises(torch.cuda.OutOfMemoryError, match=words) as caught:
        tiny.run(tmp_path, tmp_path / 'data', [tiny.EMA, tiny.PARTS, Full(kind)], max_iters=1,
                 **loops)
    assert str(caught.value).endswith('(CUDA out of memory. Tried to allocate 2.00 GiB.)')


def test_other_errors_pass():
    with pytest.raises(RuntimeError, match='^something else$'), memory_explained('x', 'y'):
        raise RuntimeError('something else')
