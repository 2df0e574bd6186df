"""ST and ST++ from the data to the last network, killed and gone on with, on a tiny project."""
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import uuid
from pathlib import Path

import forked
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmseg.registry import DATASETS
from PIL import Image

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / 'tests/integration'))
import st_plus_plus  # noqa: E402 - the tool
from commands import tool  # noqa: E402
from project import DATA, write_project  # noqa: E402

from mmseg_esl.conversion.config import Method  # noqa: E402
from mmseg_esl.datasets.pseudo import read_record  # noqa: E402
from mmseg_esl.predict import load_segmentor  # noqa: E402
from mmseg_esl.stages.images import Images  # noqa: E402
from mmseg_esl.stages.pseudo_labels import write_pseudo_labels  # noqa: E402
from mmseg_esl.stages.training import (  # noqa: E402
    retrain_config,
    teacher_config,
    wrapped,
)


def start(folder, *options, trained=None):
    """The tool in this process, its training stages too."""
    def train(config, to):
        trained.append(to.name)
        name = uuid.uuid4().hex
        with pytest.MonkeyPatch.context() as patch:
            tool(patch, 'train.py', config, '--work-dir', to, '--resume', '--cfg-options',
                 f'experiment_name={name}', f'visualizer.name={name}')

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(st_plus_plus, 'trainer', lambda gpus: train)
        patch.setattr(sys, 'argv', ['st_plus_plus.py', *command(folder, *options)])
        st_plus_plus.main()


def command(folder, *options) -> list:
    return [str(folder / 'data.py'), '--work-dir', str(folder / 'work'), '--scales', '1', *options]


def project(folder, **sizes):
    write_project(folder, **sizes)
    (folder / 'data.py').write_text(DATA)
    return folder


@pytest.fixture(scope='module')
def plus(tmp_path_factory):
    """A finished ST++ run, for reading only, and which stages trained."""
    folder, trained = project(tmp_path_factory.mktemp('plus'), num_unlabeled=7), []
    start(folder, trained=trained)
    return folder, trained


def masks_in(folder) -> dict:
    return {path.name: path.read_bytes() for path in (folder / 'pseudo_labels').iterdir()}


def protocol(stage) -> dict:
    return json.loads(next(stage.glob('*/protocol.json')).read_text())


def test_all_stages(plus):
    folder, trained = plus
    work = folder / 'work'
    assert trained == ['1_teacher', '4_retrain', '6_retrain']
    assert sorted(path.name for path in (work / '1_teacher').glob('*.pth')) == [
        'iter_1.pth', 'iter_2.pth', 'iter_4.pth']
    halves = [(work / f'2_rank/{half}.txt').read_text().split()
              for half in ('reliable', 'unreliable')]
    assert [len(half) for half in halves] == [3, 4]
    for stage, half, by in (('3_label', halves[0], '1_teacher'), ('5_label', halves[1],
                                                                  '4_retrain')):
        record = read_record(work / stage / 'pseudo_labels.json')
        assert record['complete'] and list(record['masks']) == half
        assert record['what'] == f'pseudo labels of {len(half)} images by {by}/iter_4.pth'
        assert set(masks_in(work / stage)) == set(half)  # both are .png
        for name in half:
            with Image.open(work / stage / 'pseudo_labels' / name) as mask:
                assert mask.mode == 'P' and mask.size == (64, 48) and np.asarray(mask).max() < 4


def test_protocol_says_pseudo_labels(plus):
    work = plus[0] / 'work'
    first, half, last = (protocol(work / name) for name in ('1_teacher', '4_retrain', '6_retrain'))
    assert 'pseudo' not in json.dumps(first)
    assert half['protocol'] == last['protocol'] == first['protocol'] + '+pseudo'
    assert last['labeled'] == first['labeled'] and last['unlabeled'] == first['unlabeled']
    assert first['labeled']['count'] == 4 and first['unlabeled']['count'] == 7
    assert half['pseudo_labels'] == ['pseudo labels of 3 images by 1_teacher/iter_4.pth']
    assert half['pseudo_labels'][0] in half['description']
    assert last['pseudo_labels'] == [*half['pseudo_labels'],
                                     'pseudo labels of 4 images by 4_retrain/iter_4.pth']


def test_what_the_last_network_trained_on(plus):
    """Labelled images weakly, the others strongly; the reliable half keeps its first labels."""
    work = plus[0] / 'work'
    cfg = Config.fromfile(str(work / '6_retrain.py'))
    assert 'self_training' not in Config.fromfile(str(work / '4_retrain.py'))
    assert cfg.self_training.startswith('ST++')
    assert cfg.train_dataloader.batch_sampler == dict(
        type='SemiBatchSampler', num_labeled=4, num_unlabeled=0)
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    assert dataset.num_labeled == 2 * 4 + 3 + 4  # ceil(7 / 4) times the labelled ones
    masks = [Path(dataset.get_data_info(i)['seg_map_path']) for i in range(dataset.num_labeled)]
    assert {path.parts[-3] for path in masks[8:11]} == {'3_label'}
    assert {path.parts[-3] for path in masks[11:]} == {'5_label'}
    weak = DATASETS.build(Config.fromfile(str(plus[0] / 'data.py')).train_dataloader.dataset)
    for place in range(4):
        for seed in range(5):
            assert all(map(torch.equal, *(drawn(d, place, seed) for d in (dataset, weak))))
    names = {Path(weak.get_data_info(i)['img_path']).name: i for i in range(4, 11)}
    cuts = 0
    for place in range(8, dataset.num_labeled):
        other = names[Path(dataset.get_data_info(place)['img_path']).name]
        changed = []
        for seed in range(8):
            (image, label), (plain, empty) = drawn(dataset, place, seed), drawn(weak, other, seed)
            assert image.shape == plain.shape and label.shape == empty.shape  # the same crop
            changed.append(not torch.equal(image, plain))
            cuts += (label == 255).any().item()
        assert any(changed)
    assert 10 <= cuts <= 46  # of 56, each with a chance of one half


def drawn(dataset, place, seed) -> tuple:
    """(image, label map) of an item by a seed of its own."""
    random.seed(seed)
    np.random.seed(seed)
    item = dataset[place]
    return item['inputs'], item['data_samples'].gt_sem_seg.data


def test_finished_stages_are_not_run_again(plus, capsys):
    def times():
        return {path: path.stat().st_mtime_ns for path in (plus[0] / 'work').rglob('*.p*')}

    before = times()
    start(plus[0])  # with nowhere to note a training
    assert capsys.readouterr().out.count('is finished') == 6 and times() == before
    with pytest.raises(SystemExit, match='seed: 0 -> 1'):
        start(plus[0], '--seed', '1')


def test_killed_while_labelling(plus, tmp_path):
    work = plus[0] / 'work'
    images = Images(str(plus[0] / 'data/images/unlabeled'),
                    tuple(f'unlabeled{i}.png' for i in range(7)))
    segmentor, checkpoint = noisy(work)
    said = []

    def label():
        write_pseudo_labels(tmp_path, images, segmentor, checkpoint, [1.0], said.append)
        return masks_in(tmp_path)

    whole = label()
    record = read_record(tmp_path / 'pseudo_labels.json')
    assert len(whole) == 7 and len({*whole.values()}) > 1
    for name in list(whole)[:4]:
        (tmp_path / 'pseudo_labels' / name).unlink()
    torn = tmp_path / 'pseudo_labels' / list(whole)[5]
    torn.write_bytes(torn.read_bytes()[:-20])
    (tmp_path / 'pseudo_labels.json').write_text(json.dumps({**record, 'complete': False}))
    with pytest.raises(ValueError, match='not all images have their pseudo labels'):
        DATASETS.build(dict(type='PseudoLabeledDataset',
                            ann_file=str(tmp_path / 'pseudo_labels.json')))
    assert label() == whole and said[-1] == '5 masks written, 2 were there'
    assert read_record(tmp_path / 'pseudo_labels.json') == record
    # masks of other weights are not taken for these
    content = torch.load(checkpoint, weights_only=True)
    torch.save(dict(content, other=1), checkpoint)
    assert label() == whole and said[-1] == '7 masks written, 0 were there'


def noisy(work):
    """A segmentor that sees every class, and its checkpoint's copy: four iterations leave one."""
    checkpoint = work.parent / 'noisy/iter_4.pth'
    checkpoint.parent.mkdir(exist_ok=True)
    shutil.copy(work / '1_teacher/iter_4.pth', checkpoint)
    segmentor = load_segmentor(str(work / '1_teacher.py'), checkpoint)
    images = [np.asarray(Image.open(path)) for path in sorted(
        (work.parent / 'data/images/unlabeled').iterdir())]
    inputs = (torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2) - 127.5) / 127.5
    classifier = segmentor.decode_head.conv_seg
    with torch.no_grad():
        for norm in segmentor.modules():
            if isinstance(norm, torch.nn.BatchNorm2d):
                norm.reset_running_stats()
                norm.momentum = None
        segmentor.train()(inputs)
        segmentor.eval()
        classifier.weight.normal_(generator=torch.Generator().manual_seed(0))
        classifier.bias.sub_(segmentor(inputs).mean(dim=(0, 2, 3)))
    return segmentor, checkpoint


def test_flips_make_labels_of_mirrored_images_mirrored(plus, tmp_path):
    folder = tmp_path / 'images'
    folder.mkdir()
    image = Image.open(plus[0] / 'data/images/unlabeled/unlabeled0.png')
    image.save(folder / 'a.png')
    image.transpose(Image.FLIP_LEFT_RIGHT).save(folder / 'b.png')
    segmentor, checkpoint = noisy(plus[0] / 'work')
    write_pseudo_labels(tmp_path, Images(str(folder), ('a.png', 'b.png')), segmentor, checkpoint,
                        [1.0], lambda text: None)
    a, b = (np.asarray(Image.open(tmp_path / 'pseudo_labels' / f'{n}.png')) for n in 'ab')
    assert len(np.unique(a)) > 1 and (a == b[:, ::-1]).mean() > 0.999  # sums may differ in a bit


def test_the_tool_goes_on_with_a_killed_training(plus, tmp_path):
    """With train.py in a process of its own."""
    folder = plus[0]
    work = tmp_path / 'work'
    shutil.copytree(folder / 'work', work)
    (work / '6_retrain/iter_4.pth').unlink()
    state = json.loads((work / 'stages.json').read_text())
    del state['finished']['6_retrain']
    (work / 'stages.json').write_text(json.dumps(state))
    status = forked.command(ROOT / 'tools/st_plus_plus.py', folder / 'data.py', '--work-dir', work,
                            '--scales', '1', folder=folder, file=tmp_path / 'said')
    said = (tmp_path / 'said').read_text()
    assert status == 0, said[-3000:]
    assert said.count('is finished') == 5 and '6_retrain begins' in said
    assert 'resumed epoch: 0, iter: 2' in said and (work / '6_retrain/iter_4.pth').is_file()


def test_st_has_three_stages(tmp_path):
    folder, trained = project(tmp_path, num_unlabeled=2), []
    start(folder, '--st', '--cfg-options', 'train_cfg.max_iters=2', trained=trained)
    assert trained == ['1_teacher', '3_retrain']
    assert protocol(folder / 'work/3_retrain')['pseudo_labels'] == [
        'pseudo labels of 2 images by 1_teacher/iter_2.pth']


@pytest.mark.parametrize('total, own, window, steps', [
    (1500, 1500, 1, [500, 1000, 1500]), (1000, -1, 1, [333, 666, 1000]),
    (92000, 5000, 1, [30660, 61320, 92000]), (1000, 100, 4, [320, 640, 1000])])
def test_snapshots_are_thirds_and_checkpoints_not_rarer(total, own, window, steps):
    sampler = dict(num_labeled=2, num_unlabeled=3)
    cfg = Config(dict(
        train_cfg=dict(max_iters=total), default_hooks=dict(checkpoint=dict(interval=own)),
        optim_wrapper=dict(accumulative_counts=window),
        train_dataloader=dict(batch_size=5, batch_sampler=sampler)))
    made, found = teacher_config(cfg, 3)
    interval = made.default_hooks.checkpoint.interval
    assert found == steps and all(step % interval == 0 for step in steps[:-1])
    assert interval % window == 0 and (own < 0 or interval <= own)
    assert made.train_dataloader.batch_size == 2
    assert made.train_dataloader.batch_sampler == dict(num_labeled=2, num_unlabeled=0)


@pytest.mark.parametrize('name, images', [
    ('camvid_1-16', dict(num_labeled=8, num_unlabeled=0)),
    ('voc-blender_1-8', dict(total_labeled=16, total_unlabeled=0))])
def test_data_configs_of_the_package(name, images, tmp_path):
    data = Config.fromfile(str(ROOT / f'configs/_base_/partitions/{name}.py'))
    method = Method('supervised')
    cfg = wrapped(data, method.cfg, method.hooks)
    retrain_config(cfg, ['a.json', 'b.json'], 344, 23, dict(classes=('x', ))).dump(
        str(tmp_path / 'stage.py'))
    found = Config.fromfile(str(tmp_path / 'stage.py'))
    sampler = dict(found.train_dataloader.batch_sampler)
    assert sampler.pop('type') == 'SemiBatchSampler' and sampler == images
    assert found.model.segmentor == data.model and found.optim_wrapper == data.optim_wrapper
    assert found.train_cfg == data.train_cfg and 'save_best' not in found.default_hooks.checkpoint
    repeated, *pseudo = found.train_dataloader.dataset.labeled.datasets
    assert repeated.dataset == data.train_dataloader.dataset.labeled and repeated.times == 15
    weak = [step.type for step in repeated.dataset.pipeline]  # as the unlabelled ones
    assert [[step.type for step in one.pipeline] for one in pseudo] == 2 * [
        [*weak[:-1], 'StrongColours', 'NoiseCutOut', weak[-1]]]


def test_a_stop_is_passed_on_to_the_training():
    """It ends by itself, after saving; its status says how."""
    code = ("import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit(7)); "
            "print('ready', flush=True); time.sleep(60)")
    child = subprocess.Popen([sys.executable, '-c', code], stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == 'ready\n'
    timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGTERM))
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)  # whoever runs the tests may ignore it
    try:
        timer.start()
        assert st_plus_plus.wait(child) == 7
    finally:
        signal.signal(signal.SIGTERM, before)
    timer.join()
    child.stdout.close()


def test_a_signal_that_was_ignored_stays_so():
    """As of a program in the background, or after nohup; its trainings ignore it too."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, signal.SIG_IGN) for number in numbers]

    class Process:
        def wait(self):
            return [signal.getsignal(number) for number in numbers]

    try:
        assert st_plus_plus.wait(Process()) == [signal.SIG_IGN] * 2
    finally:
        for number, handler in zip(numbers, before):
            signal.signal(number, handler)


def test_refuses_what_is_no_data_config(plus):
    options = ('--work-dir', str(plus[0] / 'other'))
    for name, said in (('supervised.py', 'a SemiDataset with an unlabelled list'),
                       ('esl.py', 'is of the method')):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, 'argv', ['st_plus_plus.py', str(plus[0] / name), *options])
            with pytest.raises(SystemExit, match=said):
                st_plus_plus.main()
    assert not (plus[0] / 'other').exists()
