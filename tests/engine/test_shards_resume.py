"""Training from tar shards: a resumed run is the whole one, bit for bit, and says what it read."""
import json
import tarfile
from types import SimpleNamespace

import pytest
import tiny
import torch
from mmseg.registry import DATASETS

from mmseg_esl.datasets.tar_files import write_index
from mmseg_esl.engine.hooks.protocol_hook import protocol_info


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / 'data'
    tiny.write_data(folder, unlabeled=5)
    (folder / 'shards').mkdir()
    for number, names in enumerate((['b0', 'b1'], ['b2', 'b3', 'b4'])):
        tar = folder / f'shards/{number}.tar'
        with tarfile.open(tar, 'w') as file:
            for name in names:
                file.add(folder / f'img/{name}.png', f'{name}.png')
        write_index(str(tar), f'{tar}.index.npy')
    return folder


def train(work, data, index_dir=None, **changes):
    loader = tiny.loader_cfg(data)
    loader['dataset']['unlabeled'].update(type='UnlabeledShards', ann_file='',
                                          index_dir=index_dir, data_prefix=dict(img_path='shards'))
    hooks = [dict(type=name) for name in ('StepHook', 'RunStateHook', 'ProtocolHook')]
    return tiny.run(work, data, hooks, model=tiny.method_cfg('MeanTeacher'), max_iters=4,
                    train_dataloader=loader, train_cfg=dict(type='SemiTrainLoop', max_iters=4),
                    save_every=2, cfg=dict(train_dataloader=loader), **changes)


def test_a_resumed_run_is_the_whole_one(tmp_path, data):
    whole = train(tmp_path / 'a', data)
    # where the indexes lie is nobody's business
    resumed = train(tmp_path / 'b', data, str(data / 'shards'), resume=True,
                    load_from=str(tmp_path / 'a/work/iter_2.pth'))
    assert resumed.iter == 4
    want, got = (runner.model.state_dict() for runner in (whole, resumed))
    assert all(torch.equal(want[key], value) for key, value in got.items())
    said, = (json.loads(path.read_text()) for path in (tmp_path / 'b').rglob('protocol.json'))
    assert said['unlabeled']['count'] == 5 and said['labeled']['count'] == 3
    before = protocol_info(whole.train_dataloader.dataset)['unlabeled']
    assert before == said['unlabeled']
    write_index(str(data / 'shards/1.tar'), str(data / 'shards/2.tar.index.npy'))
    (data / 'shards/2.tar').write_bytes((data / 'shards/1.tar').read_bytes())
    with pytest.raises(RuntimeError, match=r'unlabeled list: 5 images .* -> 8 images'):
        train(tmp_path / 'c', data, resume=True, load_from=str(tmp_path / 'a/work/iter_2.pth'))
    cfg = dict(type='UnlabeledShards', data_root=str(data), data_prefix=dict(img_path='shards'),
               pipeline=[])
    after = protocol_info(SimpleNamespace(labeled=whole.train_dataloader.dataset.labeled,
                                          unlabeled=DATASETS.build(cfg)))['unlabeled']
    assert after['count'] == 8 and after['sha256'] != before['sha256']
