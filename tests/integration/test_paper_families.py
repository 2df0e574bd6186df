"""One config of each family, shrunk: two steps, then both networks scored by the paper's protocol.

Data, network and crops are small; batches, losses, schedule, hooks and evaluation are the config's.
What the loops report is compared with a count by hand.
"""
import copy
import re
import uuid
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import tiny
import torch
from cityscapes_folder import COLOURS, draw, write, write_cityscapes
from commands import logged
from config_files import ALL, loaded
from mmengine.runner import Runner
from PIL import Image

from mmseg_esl import stack

CROP = 33  # of images of 26 x 60


def write_set(root, images: dict, masks: dict, lists: str) -> None:
    """A folder of JPEG images; ``images`` and ``masks`` name the folders of 'train' and 'val'."""
    rng, stems = np.random.default_rng(0), {'labeled': [], 'unlabeled': [], 'val': []}
    for part, count in (('labeled', 5), ('unlabeled', 6), ('val', 3)):
        for index in range(count):
            which, stem = ('val' if part == 'val' else 'train'), f'{part}_{index}'
            image, label = draw(rng, (26, 60), COLOURS)
            write(root / images[which] / f'{stem}.jpg', image)
            if part != 'unlabeled':
                write(root / masks[which] / f'{stem}.png', label)
            stems[part].append(stem)
    for part in ('labeled', 'unlabeled'):
        write_list(root / lists / f'{part}.txt', stems[part])
    write_list(root / 'ImageSets/Segmentation/val.txt', stems['val'])


def write_list(path, stems) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('\n'.join(stems) + '\n')


def voc(root):
    write_set(root, dict.fromkeys(('train', 'val'), 'JPEGImages'),
              dict(train='SegmentationClassAug', val='SegmentationClass'),
              'splits/voc-classic/1-16')
    return root / 'SegmentationClass', root / 'JPEGImages', '.jpg', ''


def cityscapes(root):
    write_cityscapes(root, num_labeled=5, num_unlabeled=6, size=(26, 60))
    return (root / 'gtFine/val/aachen', root / 'leftImg8bit/val/aachen', '_leftImg8bit.png',
            '_gtFine_labelTrainIds')


def coco(root):
    write_set(root, dict(train='train2017', val='val2017'),
              dict(train='masks/train2017', val='masks/val2017'), 'splits/1-32')
    return root / 'masks/val2017', root / 'val2017', '.jpg', ''


FAMILIES = {'esl/esl_r50_voc-classic_1-16.py': voc, 'esl/sup_r101_voc-classic_1-16.py': voc,
            'esl/esl_r50_cityscapes_1-4.py': cityscapes, 'esl/esl_xception65_coco_1-32.py': coco,
            'esl/esl_dinov2-b14_voc-classic_1-16.py': voc,
            'mean_teacher/mean_teacher_r50_voc-classic_1-16.py': voc,
            'cps/cps_r50_cityscapes_1-4.py': cityscapes,
            'fixmatch/fixmatch_r50_cityscapes_1-4.py': cityscapes,
            'unimatch/unimatch_r50_voc-classic_1-16.py': voc}
MAY_BE_ZERO = {'loss_u'}  # while no pixel is confident
# what each logs beside the supervised terms
TERMS = {'ESL': {'loss_sce', 'loss_ctr'}, 'Supervised': set(), 'MeanTeacher': {'loss_cons'},
         'CPS': {'loss_cps', 'student2.decode.loss_ce'}, 'FixMatch': {'loss_u'},
         'UniMatch': {'loss_u'}}


def shrink(cfg, root, work) -> None:
    """Another scale, the same recipe."""
    pipelines = [cfg.val_dataloader.dataset.pipeline]
    for data in (cfg.train_dataloader.dataset.labeled, cfg.train_dataloader.dataset.unlabeled):
        pipelines.append(data.pipeline)
        data.data_root = str(root)
    crop = 28 if 'dinov2' in cfg.filename else CROP
    for step in (step for pipeline in pipelines for step in pipeline):
        if 'crop_size' in step:
            step.crop_size = (crop, crop)
        if 'scale' in step:
            step.scale = (60, 26)
        if 'scales' in step:
            step.scales = [(30, 13), (60, 26), (120, 52)]
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        loader.update(num_workers=0, persistent_workers=False)
    for loader in (cfg.val_dataloader, cfg.test_dataloader):
        loader.dataset.data_root = str(root)
    segmentor = cfg.model.segmentor
    segmentor.data_preprocessor.size = (crop, crop)
    segmentor.pretrained = None
    if segmentor.test_cfg.mode == 'slide':
        segmentor.test_cfg.update(crop_size=(20, 24), stride=(13, 16))
    if 'dinov2' in cfg.filename:
        segmentor.backbone.update(
            arch=dict(embed_dims=16, num_layers=4, num_heads=2, feedforward_channels=16),
            img_size=28, out_indices=(0, 1, 2, 3), init_cfg=None)
        segmentor.neck.embed_dim = 16
        segmentor.decode_head.update(in_channels=[16] * 4, channels=12)
    else:
        # timm's Xception-65 knows no smaller one
        segmentor.backbone = copy.deepcopy(tiny.segmentor()['backbone'])
        segmentor.decode_head.update(in_channels=64, channels=12, c1_in_channels=8, c1_channels=6)
        if segmentor.auxiliary_head:
            segmentor.auxiliary_head.update(in_channels=32, channels=8)
    if 'projector' in cfg.model:
        cfg.model.projector.channels = 16
    cfg.train_cfg.update(max_iters=2, val_interval=2)
    cfg.default_hooks.checkpoint.interval = 2
    cfg.default_hooks.logger.interval = 1
    cfg.update(work_dir=str(work), log_level='WARNING', randomness=dict(seed=0),
               experiment_name=uuid.uuid4().hex)
    cfg.visualizer.name = cfg.experiment_name  # one of that name serves the whole process
    stack.prepare_cpu(cfg)


@pytest.fixture(scope='module', params=sorted(FAMILIES))
def trained(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp('family')
    cfg = copy.deepcopy(loaded(ALL / request.param))
    places = FAMILIES[request.param](folder / 'data')
    shrink(cfg, folder / 'data', folder / 'work')
    with tiny.quiet():
        runner = Runner.from_cfg(cfg)
        runner.train()
    return SimpleNamespace(cfg=cfg, runner=runner, work=folder / 'work', places=places)


def test_steps(trained):
    steps = [entry for entry in logged(trained.work) if 'loss' in entry]
    assert [entry['iter'] for entry in steps] == [1, 2]
    terms = {'decode.loss_ce', *TERMS[trained.cfg.model.type]}
    for entry in steps:
        assert {key for key in entry if 'loss_' in key} == terms
        assert entry['loss'] == pytest.approx(sum(entry[key] for key in terms), rel=1e-5)
        assert all(entry[key] > 0 for key in terms - MAY_BE_ZERO)
    rate = trained.cfg.optim_wrapper.optimizer.lr
    assert steps[0]['base_lr'] == pytest.approx(rate)
    assert trained.runner.param_schedulers[0].end == 2  # max_iters, which the config leaves out
    groups = trained.runner.optim_wrapper.param_groups
    head = trained.cfg.optim_wrapper.paramwise_cfg.get('custom_keys', {}).get('decode_head')
    rates = {1, 10} if head else {1}
    assert {round(group['initial_lr'] / rate, 6) for group in groups} == rates


def test_batch_and_protocol(trained):
    sampler = trained.runner.train_dataloader.batch_sampler
    supervised = trained.cfg.model.type == 'Supervised'
    assert (sampler.num_labeled, sampler.num_unlabeled) == (8, 0 if supervised else 8)
    assert len(list(trained.work.glob('*/protocol.json'))) == 1


def test_best_and_last_are_kept(trained):
    model = trained.runner.model
    which = 'teacher' if 'teacher' in model.roles else 'student'
    assert model.predictor is getattr(model, which)
    assert (trained.work / 'iter_2.pth').is_file()
    assert (trained.work / f'best_{which}_mIoU_iter_2.pth').is_file()
    entry = [entry for entry in logged(trained.work) if 'student/mIoU' in entry][-1]
    assert all(f'{name}/IoU.{classes(trained)[0]}' in entry for name in model.named(plain=True))


def classes(trained):
    return trained.runner.val_dataloader.dataset.metainfo['classes']


def centre(image: np.ndarray, fill, crop: int) -> np.ndarray:
    """Middle ``crop`` columns of an image that is less than ``crop`` high; below it ``fill``."""
    left = round((image.shape[1] - crop) / 2)
    out = np.empty((crop, *image.shape[1:]), image.dtype)
    out[:] = fill
    out[:len(image)] = image
    return out[:, left:left + crop]


def windows(length: int, size: int, stride: int):
    starts = range(0, max(length - size, 0) + stride, stride)
    return sorted({min(start, max(length - size, 0)) for start in starts})


def probabilities(network, image: torch.Tensor, test_cfg) -> torch.Tensor:
    metas = [dict(img_shape=image.shape[-2:], ori_shape=image.shape[-2:])]
    if test_cfg.mode == 'whole':
        return network.encode_decode(image, metas)[0]
    (high, wide), (down, right) = test_cfg.crop_size, test_cfg.stride
    total, count = 0, 0
    for top in windows(image.shape[2], high, down):
        for left in windows(image.shape[3], wide, right):
            part = image[..., top:top + high, left:left + wide]
            metas = [dict(img_shape=part.shape[-2:], ori_shape=part.shape[-2:])]
            pad = (left, image.shape[3] - left - wide, top, image.shape[2] - top - high)
            total = total + torch.nn.functional.pad(network.encode_decode(part, metas)[0], pad)
            count = count + torch.nn.functional.pad(torch.ones(high, wide), pad)
    return total / count


@torch.no_grad()
def by_hand(trained, network, crop) -> dict:
    """class index -> IoU in per cent, of the classes that occur or are predicted."""
    masks, images, suffix, kind = trained.places
    number, pre = len(classes(trained)), trained.cfg.model.segmentor.data_preprocessor
    matrix = np.zeros((256, number), dtype=np.int64)
    for path in sorted(masks.glob(f'*{kind}.png')):
        label = np.array(Image.open(path))
        stem = path.stem[:len(path.stem) - len(kind)]
        source = images / f'{stem}{suffix}'
        image = cv2.imread(str(source))[..., ::-1]  # as mmcv: decoders of JPEG differ
        if crop:
            image, label = centre(image, (124, 116, 104), crop), centre(label, 255, crop)
        image = (image - np.array(pre.mean)) / np.array(pre.std)
        image = torch.from_numpy(image).permute(2, 0, 1)[None].float()
        found = probabilities(network, image, trained.cfg.model.segmentor.test_cfg).argmax(0)
        np.add.at(matrix, (label, found.numpy()), 1)
    matrix = matrix[:number]
    union = matrix.sum(0) + matrix.sum(1) - matrix.diagonal()
    return {c: 100 * matrix[c, c] / union[c] for c in range(number) if union[c]}


def test_evaluation_by_hand(trained):
    runner, cfg = trained.runner, trained.cfg
    model, generator = runner.model, torch.Generator().manual_seed(0)
    for network in model.named(plain=True).values():  # two steps predict one class everywhere
        head = network.decode_head.conv_seg
        head.weight.data.normal_(generator=generator)
        head.bias.data.fill_(-1e4)[list(COLOURS)] = 0
    crops = [step.crop_size[0] for step in cfg.val_dataloader.dataset.pipeline
             if step.type == 'EvaluatedCenterCrop']
    with tiny.quiet():
        found = runner.val_loop.run()
        whole = runner.test()
    names = classes(trained)
    for which in model.named(plain=True):
        check(found, by_hand(trained, getattr(model, which), crops and crops[0]), names,
              f'{which}/')
    check(whole, by_hand(trained, model.predictor, None), names, '')
    if crops:  # and it matters
        assert whole['mIoU'] != found[f'{model.semi_test_cfg["predict_on"]}/mIoU']


def check(metrics, expected, names, prefix) -> None:
    assert len(expected) > 2
    assert metrics[f'{prefix}mIoU'] == pytest.approx(np.mean(list(expected.values())), abs=0.2)
    for index, iou in expected.items():
        name = re.sub('[^a-zA-Z0-9_.-]', '_', names[index])  # as backends hold it
        assert metrics[f'{prefix}IoU.{name}'] == pytest.approx(iou, abs=0.5)
