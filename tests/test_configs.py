"""Every config loads, builds and adds up."""
import copy
import importlib.util

import pytest
import torch
from config_files import CONFIGS, FOLDER, loaded, name, transforms
from mmengine.model import revert_sync_batchnorm
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
from mmseg_esl.datasets.sampler import counts_per_rank


@pytest.fixture(params=CONFIGS, ids=name)
def cfg(request):
    init_default_scope('mmseg')
    return copy.deepcopy(loaded(request.param))


def test_there_are_configs():
    assert {'esl_r50_cityscapes_1-4.py', 'esl_lite0_camvid_1-16.py'} <= {name(p) for p in CONFIGS}


def models():
    """One config of each model that is not another's."""
    found = {}
    for path in CONFIGS:
        found.setdefault(str(loaded(path).model), path)
    return sorted(found.values())


@pytest.mark.parametrize('path', models(), ids=name)
def test_model_builds(path):
    """At full size, on tensors without content."""
    init_default_scope('mmseg')
    cfg = copy.deepcopy(loaded(path))
    if cfg.model.segmentor.backbone.type == 'TIMMBackbone':
        if importlib.util.find_spec('timm') is None:
            pytest.skip('timm, which has this backbone, is not installed: pip install timm')
        cfg.model.segmentor.backbone.pretrained = False
    with torch.device('meta'):
        model = revert_sync_batchnorm(MODELS.build(cfg.model)).train()
        # an odd size, where strides and widths that do not fit would show
        view = model._whole_view(model.student, model.projector, torch.empty(2, 3, 65, 97), True)
    labeled = cfg.train_dataloader.dataset.labeled
    classes = labeled.get('metainfo', DATASETS.get(labeled.type).METAINFO)['classes']
    assert view.logits.shape == (2, len(classes), 65, 97)
    assert len(list(model.teacher.parameters())) == len(list(model.student.parameters()))
    if '+ctr' in cfg.model.semi_train_cfg.variant:
        memory = model.part_memory.prototypes
        assert memory.shape == (len(classes), cfg.model.part_memory.num_parts, view.encoder.size(1))
        assert view.embedding.size(1) == cfg.model.projector.channels


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
    counts = {key: value for key, value in loader.batch_sampler.items() if key != 'type'}
    for world in (1, 2, 4) if 'total_labeled' in counts else (1,):
        labeled, unlabeled = counts_per_rank(world, loader.batch_size, **counts)
        assert (unlabeled > 0) == (cfg.model.semi_train_cfg.variant != 'sup')


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
    iters = cfg.train_cfg.max_iters
    assert cfg.param_scheduler[-1].get('end', iters) == iters  # as mmengine fills it in
    assert 0 < cfg.train_cfg.val_interval <= iters
    assert cfg.default_hooks.checkpoint.interval in (-1, cfg.train_cfg.val_interval)


@pytest.mark.parametrize('path', sorted(FOLDER.glob('*.py')), ids=name)
def test_leaves_are_short_and_serve_inference(path):
    assert len(path.read_text().splitlines()) < 45
    # mmseg.apis.inference_model reads this name
    assert any(t.type == 'PackSegInputs' for t in loaded(path).test_pipeline)
