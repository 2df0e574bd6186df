"""What the doctor says of a config: each fault planted, and the config without it."""
import copy
import http.server
import inspect
import json
import threading

import pytest
import tiny
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS

from mmseg_esl.doctor import Finding, exit_status
from mmseg_esl.doctor.data import check_ignore_index
from mmseg_esl.doctor.diagnose import _num_parts
from mmseg_esl.doctor.findings import as_json
from mmseg_esl.doctor.memory import Sizes, check_disk, check_memory, measure
from mmseg_esl.doctor.training import check_batches, check_hooks, check_norm, check_rate
from mmseg_esl.doctor.weights import cached, check_weights, resolve
from mmseg_esl.models.part_memory import PartMemory

GB = 2 ** 30


@pytest.fixture
def cfg():
    model = tiny.esl_cfg()
    model['segmentor']['pretrained'] = __file__
    return Config(dict(
        model=model,
        train_dataloader=dict(batch_size=4, batch_sampler=dict(
            type='SemiBatchSampler', num_labeled=2, num_unlabeled=2)),
        train_cfg=dict(type='IterBasedTrainLoop', max_iters=1000),
        val_cfg=dict(type='TeacherStudentValLoop'),
        param_scheduler=[dict(type='PolyLR', end=1000, by_epoch=False)],
        optim_wrapper=dict(type='OptimWrapper',
                           optimizer=dict(type='SGD', lr=0.004, momentum=0.9)),
        custom_hooks=[tiny.EMA, tiny.PARTS],
        default_hooks=dict(checkpoint=dict(interval=100, save_best='teacher/mIoU'))))


def levels(findings):
    return [finding.level for finding in findings]


def worst(findings, check, level, *words):
    """There is one finding of that check and level that says it, with a fix."""
    found = [f for f in findings if (f.check, f.level) == (check, level)]
    assert len(found) == 1 and found[0].fix, findings
    for word in words:
        assert word in found[0].text + ' ' + found[0].fix
    return True


def test_a_sound_config(cfg):
    assert levels(check_batches(cfg, 10, 90, 1)) == ['note']
    for findings in (check_rate(cfg, 1), check_norm(cfg, 1, True), check_hooks(cfg),
                     check_weights(cfg), check_ignore_index(cfg.model)):
        assert levels(findings) == ['ok']


def test_batches(cfg):
    said = check_batches(cfg, 10, 90, world=4)[0].text
    assert '8 labelled + 8 unlabelled images a step' in said
    assert '800.0 times' in said and f'{1000 * 8 / 90:.1f} times' in said
    assert worst(check_batches(cfg, 10, 5000, 1), 'schedule', 'warning', '40%', '2500')
    assert worst(check_batches(cfg, 10, 900, 1), 'schedule', 'warning', '2 passes', '3000 or more')
    assert worst(check_batches(cfg, 10, 150, 1), 'schedule', 'warning', '1500 or more')
    long = copy.deepcopy(cfg)  # few passes over many images, and no short run
    long.train_cfg.max_iters = long.param_scheduler[0].end = 80000
    assert levels(check_batches(long, 10, 20000, 1)) == ['note']
    warm_up = copy.deepcopy(cfg)
    warm_up.param_scheduler = [dict(type='LinearLR', end=1500, by_epoch=False),
                               dict(type='PolyLR', end=1000, by_epoch=False)]
    assert worst(check_batches(warm_up, 10, 90, 1), 'schedule', 'warning', 'ends at 1500',
                 'param_scheduler.0.end=1000')
    assert worst(check_batches(cfg, 6, 90, 4), 'batches', 'warning', '8 labelled', 'only 6')
    other = copy.deepcopy(cfg)
    other.train_dataloader.batch_size = 5
    assert worst(check_batches(other, 10, 90, 1), 'batches', 'error', 'batch_size=4')
    other.train_dataloader.batch_size = 16
    other.train_dataloader.batch_sampler = dict(
        type='SemiBatchSampler', total_labeled=8, total_unlabeled=8)
    for world in (1, 4):  # as many on any number of GPUs
        said = check_batches(other, 10, 90, world)[0].text
        assert f'8 labelled + 8 unlabelled images a step on {world} ' in said
    assert worst(check_batches(other, 10, 90, 3), 'batches', 'error', 'multiples of 3')
    other.train_dataloader.batch_sampler = None
    assert worst(check_batches(other, 10, 90, 1), 'batches', 'error', 'SemiBatchSampler')
    other = copy.deepcopy(cfg)
    other.param_scheduler[0].end = 500
    assert worst(check_batches(other, 10, 90, 1), 'schedule', 'warning', 'end=1000')
    other.train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=3)
    assert worst(check_batches(other, 10, 90, 1), 'schedule', 'error', 'max_iters')


@pytest.mark.parametrize('kind, rate, world, fine', [
    ('SGD', 0.01, 4, True), ('SGD', 0.001, 4, True), ('SGD', 0.3, 4, False),
    ('SGD', 0.00001, 4, False), ('SGD', 0.01, 32, True), ('SGD', 0.2, 1, False),
    ('AdamW', 0.001, 4, True), ('AdamW', 0.1, 4, False)])
def test_rate(cfg, kind, rate, world, fine):
    cfg.optim_wrapper.optimizer = dict(type=kind, lr=rate)
    findings = check_rate(cfg, world)
    assert levels(findings) == ['ok'] if fine else worst(findings, 'learning rate', 'warning',
                                                         f'{4 * world} images', 'try lr=')


def test_rates_of_pretrained_backbones_say_nothing_of_one_from_scratch(cfg):
    """A small U-Net from random numbers learns at 0.03, which ends a ResNet-50 of ImageNet."""
    cfg.optim_wrapper.optimizer.lr = 0.3
    assert worst(check_rate(cfg, 1), 'learning rate', 'warning', 'far from')
    cfg.model['segmentor'].pop('pretrained')
    assert levels(check_rate(cfg, 1)) == ['ok']
    cfg.model['segmentor']['backbone'].update(pretrained=True)  # timm
    assert worst(check_rate(cfg, 1), 'learning rate', 'warning', 'far from')


def test_norm(cfg):
    cfg.train_dataloader.batch_sampler.update(num_labeled=1, num_unlabeled=1)
    assert worst(check_norm(cfg, 4, True), 'batch norm', 'warning', '2 image', 'SyncBN')
    assert worst(check_norm(cfg, 1, False), 'batch norm', 'warning', 'GN')
    cfg.train_dataloader.batch_sampler.update(num_labeled=2, num_unlabeled=2)
    cfg.model.semi_train_cfg.joint_forward = False
    assert worst(check_norm(cfg, 4, True), 'batch norm', 'warning')
    cfg.model = tiny.esl_cfg()
    for part in ('backbone', 'decode_head'):
        cfg.model.segmentor[part].norm_cfg = dict(type='SyncBN')
    assert worst(check_norm(cfg, 1, False), 'batch norm', 'note', 'plain BN')
    assert levels(check_norm(cfg, 4, True)) == ['ok']
    cfg.train_dataloader.batch_sampler.update(num_labeled=1, num_unlabeled=1)
    assert levels(check_norm(cfg, 4, True)) == ['ok']
    assert worst(check_norm(cfg, 1, True), 'batch norm', 'warning')


def test_hooks(cfg):
    cfg.custom_hooks = [tiny.PARTS, dict(type='EMAHook')]
    assert worst(check_hooks(cfg)[:1], 'hooks', 'error', 'swaps')
    assert worst(check_hooks(cfg)[1:], 'hooks', 'error', 'no StepHook: ESL', "type='StepHook'")
    cfg.custom_hooks = [tiny.EMA]
    assert worst(check_hooks(cfg), 'hooks', 'error', 'PartInitHook')
    cfg.model.semi_train_cfg.variant = 'dsl'
    assert levels(check_hooks(cfg)) == ['ok']
    cfg.default_hooks.checkpoint.save_best = 'mIoU'
    assert worst(check_hooks(cfg), 'hooks', 'error', 'teacher/mIoU')


def test_the_best_by_a_prefixed_metric(cfg):
    cfg.val_evaluator = [dict(type='IoUMetric', prefix='val')]
    assert worst(check_hooks(cfg), 'hooks', 'error', "save_best='teacher/val/mIoU'")
    cfg.default_hooks.checkpoint.save_best = 'teacher/val/mIoU'
    assert levels(check_hooks(cfg)) == ['ok']


def test_hooks_by_name_and_under_their_new_names(cfg):
    cfg.custom_hooks = None
    cfg.val_cfg.type = 'mmseg.SemiValLoop'
    cfg.default_hooks.update(step=dict(type='StepHook'), parts=dict(type='mmseg.PartInitHook'))
    assert levels(check_hooks(cfg)) == ['ok']
    cfg.default_hooks.parts = None  # which is how one is taken out of default_hooks
    assert worst(check_hooks(cfg), 'hooks', 'error', "add dict(type='PartInitHook')")


def method_cfg(cfg, kind, **semi):
    cfg.model = dict(type=kind, segmentor=cfg.model.segmentor, semi_train_cfg=semi)
    return cfg


def test_hooks_and_metrics_of_other_methods(cfg):
    """No clustering where nothing is clustered; save_best names a network that there is."""
    cfg.custom_hooks = [dict(type='StepHook')]
    assert worst(check_hooks(method_cfg(cfg, 'CPS')), 'hooks', 'error',
                 "save_best='student/mIoU'", 'student, student2')
    cfg.default_hooks.checkpoint.save_best = ['student2/mIoU', 'auto']
    assert levels(check_hooks(cfg)) == ['ok']
    cfg.val_cfg.networks = ['student']
    assert worst(check_hooks(cfg), 'hooks', 'error', 'there are student')
    cfg.val_cfg.pop('networks')
    cfg.default_hooks.checkpoint.save_best = 'teacher/mIoU'
    assert worst(check_hooks(method_cfg(cfg, 'FixMatch')), 'hooks', 'error', 'student/mIoU')
    assert levels(check_hooks(method_cfg(cfg, 'FixMatch', labels_by='teacher'))) == ['ok']
    cfg.model = cfg.model.segmentor  # no method: nothing is asked of its hooks
    cfg.custom_hooks = None
    assert levels(check_hooks(cfg)) == ['ok']


def test_parts_that_must_be_found(cfg):
    """K of the config, or the class's own; 1 where nothing is clustered."""
    assert _num_parts(cfg) == 2
    del cfg.model['part_memory']
    assert _num_parts(cfg) == inspect.signature(PartMemory).parameters['num_parts'].default == 5
    cfg.model.semi_train_cfg.variant = 'dsl'
    assert _num_parts(cfg) == 1 and _num_parts(method_cfg(cfg, 'CPS')) == 1


def test_ignore_index(cfg):
    cfg.model.segmentor.decode_head.ignore_index = 254
    assert worst(check_ignore_index(cfg.model), 'ignore index', 'error',
                 'decode_head.ignore_index=254')
    cfg.model.segmentor.decode_head.ignore_index = 255
    cfg.model.segmentor.data_preprocessor.seg_pad_val = 0
    assert worst(check_ignore_index(cfg.model), 'ignore index', 'error', 'seg_pad_val=0')
    for head in (cfg.model.segmentor.decode_head, cfg.model.segmentor.get('auxiliary_head')):
        if head:
            head.ignore_index = 0
    finding, = check_ignore_index(cfg.model)  # stock trains it, and 255 would be class 0's
    assert (finding.level, finding.text) == ('ok', '0 everywhere')


# ---------------------------------------------------------------------------- weights


@pytest.fixture
def server():
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.send_response(200 if self.path == '/there.pth' else 404)
            self.end_headers()

        def log_message(self, *_):
            pass

    made = http.server.HTTPServer(('127.0.0.1', 0), Handler)
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield f'http://127.0.0.1:{made.server_port}'
    made.shutdown()
    made.server_close()


def test_weights(cfg, server, tmp_path, monkeypatch):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    segmentor = cfg.model.segmentor
    for name, level in ((f'{server}/there.pth', 'ok'), (f'{server}/gone.pth', 'error'),
                        ('http://127.0.0.1:1/x.pth', 'error'), ('no/such/file.pth', 'error'),
                        ('open-mmlab://no_such_model', 'error'), ('s3://bucket/x.pth', 'note')):
        segmentor.pretrained = name
        assert levels(check_weights(cfg)) == [level], name
    segmentor.pretrained = None
    assert worst(check_weights(cfg), 'weights', 'warning', 'warmup_iters and PartInitHook.begin')
    for alone, level in ((dict(variant='sup'), 'note'), (dict(variant='dsl'), 'warning')):
        cfg.merge_from_dict({'model.semi_train_cfg': alone})
        found, = check_weights(cfg)
        assert found.level == level and 'PartInitHook' not in found.fix
        assert ('warmup_iters' in found.fix) == (level == 'warning')
    cfg.merge_from_dict({'model.semi_train_cfg.warmup_iters': 8})
    note, = check_weights(cfg)
    assert note.level == 'note' and 'labelled images alone for 8 iterations' in note.text
    segmentor.backbone.init_cfg = dict(type='Pretrained', checkpoint='no/file.pth')
    cfg.load_from = f'{server}/gone.pth'
    assert levels(check_weights(cfg)) == ['error', 'error']
    assert resolve('open-mmlab://resnet50_v1c').startswith('https://')
    path = tmp_path / 'hub/checkpoints/gone.pth'
    assert cached(cfg.load_from) == str(path)
    path.parent.mkdir(parents=True)
    path.touch()
    assert levels(check_weights(cfg)) == ['error', 'ok']
    segmentor.backbone = dict(type='TIMMBackbone', model_name='x', pretrained=True,
                              pretrained_cfg_overlay=dict(file='no/file.safetensors'))
    assert levels(check_weights(cfg)) == ['error', 'ok']
    folder = tmp_path / 'swin'  # of transformers
    segmentor.backbone = dict(type='HFBackbone', config=str(folder), pretrained=str(folder))
    folder.mkdir()
    assert levels(check_weights(cfg)) == ['error', 'ok']
    (folder / 'config.json').touch()
    assert levels(check_weights(cfg)) == ['error', 'ok']
    assert 'is a folder without' in check_weights(cfg)[0].text
    (folder / 'model.safetensors').touch()
    assert levels(check_weights(cfg)) == ['ok', 'ok']


# ------------------------------------------------------------------------ memory and disk


def test_measured_on_tensors_without_content(cfg):
    """The same figures as the real model on a real batch gives."""
    sizes = measure(cfg)
    model = tiny.esl()
    weights = model.state_dict().values()
    assert sizes.state == sum(v.numel() * v.element_size() for v in weights)
    trained = sum(4 * p.numel() for p in model.parameters() if p.requires_grad)
    assert (sizes.trained, sizes.momenta) == (trained, trained)
    assert sizes.checkpoint == sizes.state + trained

    kept, own = {}, {p.data_ptr() for p in model.parameters()}

    def pack(tensor):
        if tensor.untyped_storage().data_ptr() not in own:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = tiny.total(model(*tiny.batch(2, 2), mode='loss'))
        real = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
        del loss
    assert 0.7 * real < sizes.activations < 1.3 * real, (sizes.activations, real)
    cfg.optim_wrapper.optimizer = dict(type='AdamW', lr=1)
    cfg.train_dataloader.batch_sampler.update(num_labeled=4, num_unlabeled=4)
    more = measure(cfg)
    assert more.momenta == 2 * trained
    assert more.activations == pytest.approx(2 * sizes.activations, rel=0.01)


@pytest.mark.parametrize('kind, semi, networks', [
    ('CPS', {}, 2), ('FixMatch', {}, 1), ('UniMatch', dict(labels_by='teacher'), 1),
    ('MeanTeacher', {}, 1), ('Supervised', dict(average=True), 1)])
def test_memory_of_other_methods(cfg, kind, semi, networks):
    """Against the tensors that a real step keeps: several networks, several views."""
    method_cfg(cfg, kind, **semi)
    sizes = measure(cfg)
    init_default_scope('mmseg')
    model = MODELS.build(cfg.model)
    model.driven = True
    model.train()
    weights = sum(v.numel() * v.element_size() for v in model.main.parameters())
    assert sizes.trained == networks * weights == sizes.momenta
    kept, own = {}, {p.data_ptr() for p in model.parameters()}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = tiny.total(model.loss(*tiny.batch(2, 2)))
        real = sum(storage.nbytes() for storage in kept.values())
        del loss
    assert 0.7 * real < sizes.activations < 1.3 * real, (sizes.activations, real)


def test_memory(cfg):
    sizes = Sizes(state=GB, trained=GB, momenta=GB, activations=4 * GB, targets=GB)
    assert levels(check_memory(sizes, None)) == ['note']
    assert levels(check_memory(sizes, 10 * GB)) == ['ok']
    assert worst(check_memory(sizes, 9 * GB), 'memory', 'warning', 'about 8.0 GB', '9.0 GB')


@pytest.mark.parametrize('keep, best, number', [
    (-1, None, 10), (1, None, 2), (3, 'teacher/mIoU', 5), (20, None, 10)])
def test_disk(cfg, tmp_path, keep, best, number):
    cfg.work_dir = str(tmp_path / 'not/yet/there')
    cfg.default_hooks.checkpoint.update(max_keep_ckpts=keep, save_best=best)
    sizes = Sizes(state=GB, trained=0, momenta=GB, activations=0, targets=0)
    assert worst(check_disk(cfg, sizes, 2 * number * GB - 1), 'disk', 'error',
                 f'{number} checkpoint(s) of 2.00 GB', str(tmp_path))
    assert levels(check_disk(cfg, sizes, 2 * number * GB)) == ['warning']
    assert levels(check_disk(cfg, sizes, 200 * GB)) == ['ok']


# --------------------------------------------------------------------------------- report


def test_status_and_json():
    ok, warning = Finding('ok', 'a', 'b'), Finding('warning', 'c', 'd', 'e')
    error = Finding('error', 'f', 'g', 'h')
    assert [exit_status(f) for f in ([], [ok], [ok, warning], [warning, error])] == [0, 0, 0, 1]
    assert exit_status([warning], strict=True) == 1 and exit_status([ok], strict=True) == 0
    read = json.loads(as_json([ok, warning, error], 'x.py'))
    assert read['status'] == 1 and read['counts'] == dict(ok=1, warning=1, error=1)
    assert read['findings'][1] == dict(level='warning', check='c', text='d', fix='e', names=[])
    for wrong in (('bad', 'a', 'b', 'c'), ('error', 'a', 'b')):
        with pytest.raises(ValueError):
            Finding(*wrong)
