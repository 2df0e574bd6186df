"""Every config loads, builds and adds up."""
import copy
import importlib.util
import re

import pytest
import torch
from config_files import ALL, CONFIGS, PARTITIONS, loaded, name, transforms
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
from mmseg_esl.semi import network
from mmseg_esl.semi.roles import first_average

BUILT: set = set()  # texts of models


@pytest.fixture(params=CONFIGS, ids=name)
def cfg(request):
    init_default_scope('mmseg')
    return copy.deepcopy(loaded(request.param))


def test_there_are_configs():
    assert {'esl/esl_r50_cityscapes_1-4.py', 'cps/cps_lite0_camvid_1-16.py'} <= {
        name(path) for path in CONFIGS}
    assert len(PARTITIONS) == 17


def built(cfg):
    """Without content and without weights of others."""
    backbone = cfg.get('segmentor', cfg).backbone
    if backbone.type.startswith('TIMM'):
        if importlib.util.find_spec('timm') is None:
            pytest.skip('timm, which has this backbone, is not installed: pip install timm')
        if 'pretrained' in backbone:
            backbone.pretrained = False
    with torch.device('meta'):
        return revert_sync_batchnorm(MODELS.build(cfg)).train()


def classes_of(cfg):
    labeled = cfg.train_dataloader.dataset.labeled
    return labeled.get('metainfo', DATASETS.get(labeled.type).METAINFO)['classes']


@pytest.mark.parametrize('path', CONFIGS, ids=name)
def test_model_builds(path):
    """At full size, on tensors without content; once where models differ in numbers of a step."""
    init_default_scope('mmseg')
    cfg = copy.deepcopy(loaded(path))
    text = str({**cfg.model, 'semi_train_cfg': {
        key: value for key, value in cfg.model.semi_train_cfg.items()
        if not isinstance(value, float) and not key.endswith('_iters')}})
    if text in BUILT:
        return
    model, classes = built(cfg.model), classes_of(cfg)
    trained = model.named(trained=True, plain=True)
    for net in trained.values():  # an odd size, where strides and widths that do not fit would show
        with torch.device('meta'):
            view = network.see(net, torch.empty(2, 3, 65, 97), encoder=True)
        assert view.logits.shape == (2, len(classes), 65, 97)
    for which, net in model.named(trained=False).items():
        source = getattr(model, model.roles[which].follows)
        assert [p.shape for p in net.parameters()] == [p.shape for p in source.parameters()]
    if 'PartInitHook' in model.hooks_of(model.cfg):
        memory = model.part_memory.prototypes
        assert memory.shape == (len(classes), cfg.model.part_memory.num_parts, view.encoder.size(1))
        assert model.projector.out_channels == cfg.model.projector.channels
    BUILT.add(text)


@pytest.mark.parametrize('path', PARTITIONS, ids=name)
def test_partition_is_a_supervised_config(path):
    """Of a plain segmentor, that a method can wrap."""
    init_default_scope('mmseg')
    cfg = copy.deepcopy(loaded(path))
    assert cfg.model.type == 'EncoderDecoder' and 'method' not in cfg
    assert built(cfg.model).decode_head.num_classes == len(classes_of(cfg))
    part, fraction = path.stem.rsplit('_', 1)
    for which in ('labeled', 'unlabeled'):
        listed = cfg.train_dataloader.dataset[which].ann_file
        assert listed == cfg.lists[which].ann_file
        assert listed.endswith(f'/{fraction}/{which}.txt') or part == 'camvid'


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
        assert (unlabeled > 0) == (cfg.model.type != 'Supervised')


def test_crops_fill_the_batch(cfg):
    """Crop, padding and the sliding window have one size."""
    size = tuple(cfg.model.segmentor.data_preprocessor['size'])
    dataset = cfg.train_dataloader.dataset
    for pipeline in (dataset.labeled.pipeline, dataset.unlabeled.pipeline):
        crops = [tuple(t.crop_size) for t in pipeline if t.type == 'RandomCrop']
        assert crops == [size]
    test_cfg = cfg.model.segmentor.test_cfg
    assert test_cfg.mode == 'whole' or tuple(test_cfg.crop_size) == size


def test_hooks_and_loops_build(cfg):
    method = MODELS.get(cfg.model.type)
    needed = method.hooks_of(method.parse_cfg(cfg.model.semi_train_cfg))
    kinds = {hook.type for hook in cfg.default_hooks.values()}
    assert {*needed, 'DiagnosticsHook', 'RunStateHook', 'FiniteGuardHook', 'ProtocolHook',
            'SemiCheckpointHook'} <= kinds
    assert ('PartInitHook' in kinds) == ('PartInitHook' in needed)
    assert cfg.train_cfg.type == 'SemiTrainLoop'
    Visualizer.get_instance('configs')  # some hooks want one to be there
    for hook in [*cfg.default_hooks.values(), *cfg.get('custom_hooks', ())]:
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


def test_best_is_of_a_network_that_is_there(cfg):
    method = MODELS.get(cfg.model.type)
    roles = method.roles_of(method.parse_cfg(cfg.model.semi_train_cfg))
    best, metric = cfg.default_hooks.checkpoint.save_best.split('/')
    assert metric == 'mIoU' and roles[best].plain
    assert best == cfg.model.get('semi_test_cfg', {}).get('predict_on', first_average(roles))


@pytest.mark.parametrize('path', [path for path in CONFIGS if 'demo' not in path.parts], ids=name)
def test_leaves_are_short_and_serve_inference(path):
    lines = path.read_text().splitlines()
    assert len([line for line in lines if line[:1] != '#']) <= (36 if 'dinov2' in path.name else 8)
    # mmseg.apis.inference_model reads this name
    assert any(t.type == 'PackSegInputs' for t in loaded(path).test_pipeline)


def test_methods_state_the_defaults_that_they_state():
    """What method.py spells out is what the class would do, but for what its comment explains."""
    differ = {'mean_teacher': {'ema_schedule'}, 'u2pl': {'contrast_weight'}}
    for path in sorted(ALL.glob('*/method.py')):
        cfg = loaded(path).method
        method = MODELS.get(cfg.type)
        given, own = (method.parse_cfg(semi) for semi in (cfg.semi_train_cfg.to_dict(), {}))
        assert {key for key in cfg.semi_train_cfg if getattr(given, key) != getattr(own, key)} == \
            differ.get(path.parent.name, set()), path


@pytest.mark.parametrize('method', [
    'augseg', 'fixmatch', 'unimatch', 'unimatch_v2', 'mean_teacher', 'cps', 'gct', 'pseudoseg',
    'cutmix_seg', 'ps_mt', 'u2pl', 'reco', 'gta_seg', 'pc2seg', 'cct'])
def test_deeper_network_is_one_command(method):
    """As the README says."""
    text = (ALL / method / 'README.md').read_text()
    command = text.split('--cfg-options')[1].partition('\n```')[0].split('\n')[1]
    path = ALL.parent / re.search(r'configs/\S+\.py', text.split('--cfg-options')[0]
                                  .rpartition('tools/')[2]).group()
    cfg = copy.deepcopy(loaded(path))
    cfg.merge_from_dict(dict(option.split('=') for option in command.split()))
    assert cfg.model.segmentor.backbone.depth in (101, '101')
    assert cfg.model.segmentor.pretrained == 'open-mmlab://resnet101_v1c'


@pytest.mark.parametrize('method, cells', [('u2pl', 13), ('gta_seg', 13)])
def test_networks_of_u2pl(method, cells):
    """Dilations of the last stage, block by block, and 512 channels before the classifier."""
    init_default_scope('mmseg')
    paths = sorted((ALL / method).glob('*_r50_*.py'))
    assert len(paths) == cells
    configs = [loaded(path).model.segmentor for path in paths]
    assert len({str((c.backbone, c.decode_head.channels, c.decode_head.c1_channels))
                for c in configs}) == 1
    net = built(copy.deepcopy(configs[0]))
    assert [block.conv2.dilation[0] for block in net.backbone.layer4] == [4, 8, 16]
    assert [block.conv2.dilation[0] for block in net.backbone.layer3] == [1, 2, 2, 2, 2, 2]
    assert net.decode_head.sep_bottleneck[0].depthwise_conv.in_channels == 512
