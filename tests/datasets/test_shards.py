"""Tar shards: images are read where they lie, in the order that the sampler says, on every rank."""
import io
import pickle
import runpy
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from mmengine import fileio
from mmengine.dataset import InfiniteSampler
from mmseg.registry import DATASETS
from PIL import Image
from torch.utils.data import DataLoader

from mmseg_esl.datasets import SemiBatchSampler, sampler, tar_files
from mmseg_esl.engine.resume.fingerprint import _listed

TOOL = runpy.run_path(str(Path(__file__).parents[2]
                          / 'tools/dataset_converters/index_shards.py'))
COUNTS = (5, 1, 8)
LONG = 'a/' * 80 + 'ü'  # a name that takes a header of its own


def png(value: int) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.full((24, 32, 3), value, np.uint8)).save(out, 'PNG')
    return out.getvalue()


def write_tar(path, images, **kwargs):
    with tarfile.open(path, 'w', **kwargs) as tar:
        for name, data in images:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


@pytest.fixture
def shards(tmp_path):
    """Image i of all has the grey value i."""
    folder, number = tmp_path / 'shards', 0
    folder.mkdir()
    for s, count in enumerate(COUNTS):
        members = [('readme.txt', b'no image'), ('._hidden.png', b'x')]
        for _ in range(count):
            members.append((f'{LONG if number == 3 else "x"}/{number}.png', png(number)))
            number += 1
        write_tar(folder / f'{s:03d}.tar', members,
                  format=(tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT)[s])
    assert TOOL['main']([str(folder)]) == 0
    return folder


def cfg(folder, **changes):
    return dict(dict(type='UnlabeledShards', data_prefix=dict(img_path=str(folder)), pipeline=[
        dict(type='LoadImageFromFile'), dict(type='LoadEmptyAnnotations'),
        dict(type='PackSegInputs')]), **changes)


def values(items):
    return [int(item['inputs'].float().mean()) for item in items]


def semi(data, folder, **changes):
    return DATASETS.build(data.semi_cfg(unlabeled=cfg(folder), **changes))


def test_every_image_is_found(shards, data):
    dataset = DATASETS.build(cfg(shards))
    assert len(dataset) == sum(COUNTS) and not dataset.data_list
    assert values(dataset[i] for i in range(14)) == list(range(14))
    assert values([dataset[-1]]) == [13]
    path = dataset.get_data_info(3)['img_path']
    assert path.startswith(f'tar://{shards}/000.tar#') and path.endswith(f'/{LONG}/3.png')
    with tarfile.open(shards / '000.tar') as tar:  # the bytes that tarfile gives
        assert fileio.get(path) == tar.extractfile(f'{LONG}/3.png').read()
    with pytest.raises(IndexError, match='14 images'):
        dataset.get_data_info(14)


def test_in_a_semi_dataset_with_workers_and_ranks(shards, data):
    """Two ranks share a pass without a repetition; workers and a resumed run read the same."""
    dataset, seen = semi(data, shards), []
    assert (dataset.num_labeled, dataset.num_unlabeled) == (4, 14)
    for rank in range(2):
        inner = InfiniteSampler(dataset, seed=3)
        inner.rank, inner.world_size = rank, 2
        batches = SemiBatchSampler(inner, 2, 1, 1)
        want = [[int(i) for i in batches.batch(t)] for t in range(7)]
        batches.set_start(3)
        found = []
        for batch, _ in zip(DataLoader(dataset, batch_sampler=batches, num_workers=2 * rank,
                                       collate_fn=list), range(4)):
            found += values(batch[1:])
            assert not batch[1]['data_samples'].labeled
        assert found == [unlabeled - 4 for _, unlabeled in want[3:]]
        seen += [unlabeled - 4 for _, unlabeled in want]
    assert Counter(seen) == Counter(range(14))


def test_a_resumed_run_knows_its_shards(shards):
    before = _listed(DATASETS.build(cfg(shards)))
    assert before == _listed(DATASETS.build(cfg(shards)))
    write_tar(shards / '003.tar', [('x/0.png', png(0))])
    TOOL['main']([str(shards)])
    assert before != _listed(DATASETS.build(cfg(shards)))


def test_only_indexes_that_are_read_are_opened(shards):
    dataset = DATASETS.build(cfg(shards))
    assert not dataset._open
    dataset[7]
    assert list(dataset._open) == [2]
    copied = pickle.loads(pickle.dumps(dataset))  # as for a spawned worker
    assert not copied._open and values([copied[7]]) == [7]
    rows = dataset._open[2].rows
    assert isinstance(rows, np.memmap) and not rows.flags.writeable


def test_on_another_file_system(shards, tmp_path):
    """fsspec is asked for the bytes of one image."""
    fsspec = pytest.importorskip('fsspec')
    files = fsspec.filesystem('memory')
    for tar in sorted(shards.glob('*.tar')):
        files.pipe_file(f'memory://bucket/{tar.name}', tar.read_bytes())
    (tmp_path / 'shards.txt').write_text('# all\n002.tar\n000.tar\n')
    dataset = DATASETS.build(cfg('memory://bucket', ann_file=str(tmp_path / 'shards.txt'),
                                 index_dir=str(shards)))
    assert dataset.get_data_info(0)['img_path'].startswith('tar+memory://bucket/002.tar#')
    assert values([dataset[0], dataset[8]]) == [6, 0]


def test_a_damaged_image_is_named(shards, data):
    tar = shards / '001.tar'
    content = tar.read_bytes()
    tar.write_bytes(content.replace(b'IDAT', b'IDAX'))
    with pytest.raises(ValueError, match=r'001\.tar#\d+\+\d+/x/5\.png.*checksum'):
        semi(data, shards)[4 + 5]
    replaced = semi(data, shards, on_error='skip')[4 + 5]
    assert values([replaced]) == [6]


def test_what_is_no_shard(shards, tmp_path, capsys):
    assert TOOL['main']([str(tmp_path)]) == 1
    (shards / '000.tar').write_bytes((shards / '000.tar').read_bytes() + b'\0' * 512)
    with pytest.raises(ValueError, match=r'another size.*000\.tar.*--again'):
        DATASETS.build(cfg(shards))
    assert TOOL['main']([str(shards)]) == 0 and len(DATASETS.build(cfg(shards))) == 14
    write_tar(shards / '004.tar', [('x/0.png', b'x' * 5000)])
    with pytest.raises(FileNotFoundError, match=r'004\.tar\.index\.npy.*index_shards'):
        DATASETS.build(cfg(shards))
    whole = (shards / '004.tar').read_bytes()
    for bad, match in ((whole[:2000], 'truncated|damaged'), (b'\x1f\x8b' + whole, 'compressed')):
        (shards / '004.tar').write_bytes(bad)
        with pytest.raises(ValueError, match=match):
            tar_files.write_index(str(shards / '004.tar'), str(tmp_path / 'x.npy'))
        assert not (tmp_path / 'x.npy').exists()
    (shards / '004.tar.index.npy').write_bytes(b'nothing')
    with pytest.raises(ValueError, match='no index'):
        DATASETS.build(cfg(shards))
    write_tar(shards / '005.tar', [('x/0.txt', b'')])
    (shards / '004.tar').unlink()
    assert TOOL['main']([str(shards)]) == 1
    assert 'holds no image' in capsys.readouterr().err


@pytest.mark.parametrize('path', ['tar:///x.tar', 'tar:///x.tar#1+2', 'tar://x.tar#-1+2/a'])
def test_paths_of_no_image(path):
    with pytest.raises(ValueError, match='OFFSET'):
        tar_files.TarBackend().get(path)


@pytest.mark.parametrize('n', [1, 2, 3, 64, 65, 1000])
def test_large_passes_are_permutations(n):
    orders = [[sampler.Scattered(n, seed, 1, number)[i] for i in range(n)]
              for seed, number in ((0, 0), (0, 1), (1, 0))]
    for order in orders:
        assert sorted(order) == list(range(n))
    if n == 1000:
        for a, b in ((0, 1), (0, 2), (1, 2)):  # independent: one place in a thousand agrees
            assert sum(x == y for x, y in zip(orders[a], orders[b])) < 10
            assert abs(np.corrcoef(orders[a], orders[b])[0, 1]) < 0.12
        steps = np.diff(orders[0])
        assert abs((steps > 0).mean() - 0.5) < 0.06 and len(set(steps)) > 600


def test_large_sets_go_that_way(monkeypatch, shards, data):
    """Frozen: a run resumed under another version goes on with the same images."""
    assert [sampler.Scattered(10 ** 8, 7, 1, 2)[i] for i in (0, 1, 99_999_999)] == FROZEN
    monkeypatch.setattr(sampler, 'LARGE', 13)
    batches = SemiBatchSampler(InfiniteSampler(semi(data, shards), seed=5), 8, 1, 7)
    found = [int(i) - 4 for t in range(2) for i in batches.batch(t)[1:]]
    assert found == [sampler.Scattered(14, 5, 1, 0)[i] for i in range(14)]


FROZEN = [12952505, 97906843, 30336894]
