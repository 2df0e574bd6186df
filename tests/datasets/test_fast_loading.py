"""Workers, prefetching and pinned memory, as a config asks for them."""
import tiny
import torch
from torch.utils.data._utils.pin_memory import pin_memory


def test_keys_of_the_config_reach_the_loader(tmp_path):
    tiny.write_data(tmp_path / 'data')
    cfg = dict(tiny.loader_cfg(tmp_path / 'data'), num_workers=1, persistent_workers=True,
               prefetch_factor=3, pin_memory=True)
    loop = dict(type='SemiTrainLoop', max_iters=3, val_interval=3)
    runner = tiny.run(tmp_path, tmp_path / 'data', [tiny.EMA, tiny.PARTS], max_iters=3,
                      train_dataloader=cfg, train_cfg=loop)
    loader = runner.train_dataloader
    assert (loader.pin_memory, loader.persistent_workers, loader.prefetch_factor) == (True, True, 3)
    assert runner.iter == 3


def test_labels_are_not_pinned():
    """docs/fast_training.md says so: torch passes over what is neither tensor nor container."""
    _, samples = tiny.batch()
    assert all(out is given for out, given in zip(pin_memory(samples), samples))
    if torch.cuda.is_available():
        assert pin_memory(torch.ones(1)).is_pinned()
        assert not pin_memory(samples)[0].gt_sem_seg.data.is_pinned()
