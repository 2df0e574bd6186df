"""Every config loads, builds and adds up."""
import copy
import importlib.util
import math
import warnings
from functools import lru_cache
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.visualization import Visualizer
from mmseg.registry import (
    DATA_SAMPLERS,
    DATASETS,
    HOOKS,
    LOOPS,
    METRICS,
    MODELS,
    OPTIM_WRAPPERS,
    PARAM_SCHEDULERS,
    TRANSFORMS,
)

import mmseg_esl.register  # noqa: F401  (so that the registries are full)

FOLDER = Path(__file__).parents[1] / 'configs/esl'
CONFIGS = sorted(path for path in FOLDER.rglob('*.py') if '_base_' not in path.parts)


def name(path):
    return path.relative_to(FOLDER).as_posix()


@lru_cache(maxsize=None)
def loaded(path):
    """Reading a config takes seconds, since mmengine looks mmseg's up."""
    return Config.fromfile(str(path))


@pytest.fixture(params=CONFIGS, ids=name)
def cfg(request):
    init_default_scope('mmseg')
    return copy.deepcopy(loaded(request.param))


def without_downloads(model):
    """The model's config without pretrained weights, and without timm where it is missing."""
    segmentor = model.segmentor
    segmentor.pretrained = None
    segmentor.backbone.pop('init_cfg', None)
    if segmentor.backbone.type == 'TIMMBackbone':
        segmentor.backbone.pretrained = False
        if importlib.util.find_spec('timm') is None:
            warnings.warn(f'timm is not installed: {segmentor.backbone.model_name} is replaced by '
                          'a MobileNetV2, which has the same widths')
            segmentor.backbone = dict(type='MobileNetV2', out_indices=(1, 2, 4, 6),
                                      strides=(1, 2, 2, 2, 1, 1, 1), norm_cfg=dict(type='BN'))
    return model


def test_there_are_configs():
    assert {'esl_r50_cityscapes_1-4.py', 'esl_lite0_camvid_1-16.py'} <= {name(p) for p in CONFIGS}


def test_model_builds(cfg):
    model = MODELS.build(without_downloads(cfg.model))
    assert len(list(model.teacher.parameters())) == len(list(model.student.parameters()))
    labeled = cfg.train_dataloader.dataset.labeled
    classes = labeled.get('metainfo', DATASETS.get(labeled.type).METAINFO)['classes']
    assert model.num_classes == len(classes)
    if '+ctr' in cfg.model.semi_train_cfg.variant:
        assert model.part_memory.num_classes == model.num_classes


def transforms(pipeline):
    for transform in pipeline:
        if isinstance(transform, (list, tuple)):
            yield from transforms(transform)
        else:
            yield transform
            yield from transforms(transform.get('transforms', ()))


def test_data_is_registered(cfg):
    loader = cfg.train_dataloader
    assert DATASETS.get(loader.dataset.type).__name__ == 'SemiDataset'
    assert DATA_SAMPLERS.get(loader.batch_sampler.type) and DATA_SAMPLERS.get(loader.sampler.type)
    datasets = [loader.dataset.labeled, loader.dataset.unlabeled, cfg.val_dataloader.dataset,
                cfg.test_dataloader.dataset]
    for dataset in datasets:
        assert DATASETS.get(dataset.type), dataset.type
        for transform in transforms(dataset.pipeline):
            assert TRANSFORMS.get(transform.type), transform.type
    # the images are the same and only one of the two pipelines opens label maps
    assert loader.dataset.labeled.data_root == loader.dataset.unlabeled.data_root
    kinds = [[t.type for t in dataset.pipeline] for dataset in datasets[:2]]
    assert 'LoadAnnotations' in kinds[0] and 'LoadAnnotations' not in kinds[1]
    assert 'LoadEmptyAnnotations' in kinds[1]


def test_batch_adds_up(cfg):
    loader = cfg.train_dataloader
    sampler = loader.batch_sampler
    assert sampler.num_labeled + sampler.num_unlabeled == loader.batch_size
    assert sampler.num_labeled > 0
    assert (sampler.num_unlabeled > 0) == (cfg.model.semi_train_cfg.variant != 'sup')


def test_crops_fill_the_batch(cfg):
    """Crop, padding and the sliding window have one size."""
    size = tuple(cfg.model.segmentor.data_preprocessor['size'])
    dataset = cfg.train_dataloader.dataset
    for pipeline in (dataset.labeled.pipeline, dataset.unlabeled.pipeline):
        crops = [tuple(t.crop_size) for t in pipeline if t.type == 'RandomCrop']
        assert crops == [size]


def test_hooks_and_loops_build(cfg):
    kinds = [type(HOOKS.build(hook)).__name__ for hook in cfg.custom_hooks]
    assert {'TeacherEMAHook', 'PartInitHook', 'DiagnosticsHook', 'RunStateHook'} <= set(kinds)
    assert cfg.train_cfg.type == 'SemiTrainLoop'
    Visualizer.get_instance('configs')  # some hooks want one to be there
    for hook in cfg.default_hooks.values():
        assert HOOKS.build(hook)
    for loop in (cfg.train_cfg, cfg.val_cfg, cfg.test_cfg):
        assert LOOPS.get(loop.type), loop.type
    assert METRICS.get(cfg.val_evaluator.type)
    assert OPTIM_WRAPPERS.get(cfg.optim_wrapper.type)
    assert all(PARAM_SCHEDULERS.get(scheduler.type) for scheduler in cfg.param_scheduler)


def test_schedule_ends_with_the_training(cfg):
    assert cfg.param_scheduler[-1].end == cfg.train_cfg.max_iters
    assert cfg.train_cfg.max_iters % cfg.train_cfg.val_interval == 0


@pytest.mark.parametrize('path', sorted(FOLDER.glob('*.py')), ids=name)
def test_leaves_are_short_and_serve_inference(path):
    assert len(path.read_text().splitlines()) < 45
    # mmseg.apis.inference_model reads this name
    assert any(t.type == 'PackSegInputs' for t in loaded(path).test_pipeline)


def test_cityscapes_follows_the_paper():
    cfg = loaded(FOLDER / 'esl_r50_cityscapes_1-4.py')
    unlabeled, gpus = 2975 - 744, 4
    step = gpus * cfg.train_dataloader.batch_sampler.num_unlabeled
    assert step == 8 == gpus * cfg.train_dataloader.batch_sampler.num_labeled
    assert cfg.train_cfg.max_iters == 200 * math.ceil(unlabeled / step)
    assert cfg.model.semi_train_cfg == dict(
        variant='dsl+ctr', mass=0.95, sce_weight=0.2, ctr_weight=0.1, confidence=0.95,
        anchor_fraction=0.1, num_negatives=255, temperature=0.5, cutmix_prob=0.5)
    assert (cfg.model.part_memory.num_parts, cfg.model.part_memory.momentum) == (5, 0.99)
    assert cfg.model.projector.channels == 512
    optimizer, rates = cfg.optim_wrapper.optimizer, cfg.optim_wrapper.paramwise_cfg.custom_keys
    assert (optimizer.type, optimizer.lr, optimizer.weight_decay) == ('SGD', 1e-2, 5e-4)
    assert {key: value.lr_mult for key, value in rates.items()} == dict(decode_head=10,
                                                                        projector=10)
    assert cfg.model.segmentor.decode_head.loss_decode == dict(
        type='OHEMCrossEntropyLoss', thresh=0.7, min_kept=100_000)
