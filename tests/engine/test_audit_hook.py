"""PseudoLabelAuditHook under a real Runner: right figures, and a training that does not notice."""
import json
import os
import signal
import time

import audited
import forked
import guarded
import numpy as np
import pytest
import tiny
from audited import Sharpen, Spread, audit
from mmengine.config import ConfigDict
from mmseg.registry import DATASETS, TRANSFORMS
from PIL import Image

from mmseg_esl.engine import PseudoLabelAuditHook
from mmseg_esl.engine.hooks.audit_hook import check_masks, write_json
from mmseg_esl.engine.rng import rng_state


@TRANSFORMS.register_module()
class Slow:
    """Says that it has begun, and takes its time."""

    def __init__(self, path):
        self.path = path

    def __call__(self, results):
        with open(self.path, 'a') as file:
            file.write('.')
        time.sleep(0.5)
        return results


LOCAL = dict(type='SegLocalVisualizer', vis_backends=[dict(type='LocalVisBackend')], name='audit')


@pytest.fixture
def data(tmp_path):
    tiny.write_data(tmp_path / 'data')
    return tmp_path / 'data'


def test_training_does_not_notice(tmp_path, data):
    """Also where loading the hold-out draws random numbers of all three kinds."""
    loader = tiny.val_loader_cfg(data)
    loader['dataset']['pipeline'][2:2] = [
        dict(type='PhotoMetricDistortion'), dict(type='RandomFlip', prob=0.5)]
    guard, diagnostics = guarded.GUARD, dict(type='DiagnosticsHook', interval=3)
    found = []
    for name, hooks in (('without', []), ('with', [audit(interval=1)])):
        def state(runner):
            torch_state = {key: value.clone() for key, value in guarded.state(runner).items()}
            random = json.dumps(rng_state(), default=lambda x: x.tolist())
            return torch_state, random, runner.model.training, runner.model.teacher.training

        watch = tiny.Watch(state)
        runner = tiny.run(tmp_path / name, data, [
            tiny.EMA, tiny.PARTS, diagnostics, guard, *hooks, watch], max_iters=5, val=True,
            val_dataloader=loader)
        losses = {key: history.data[0].tolist()
                  for key, history in runner.message_hub.log_scalars.items()
                  if not key.endswith(('time', 'host_memory'))}
        found.append((watch.found, losses))
    assert len(list((tmp_path / 'with/work/audit').iterdir())) == 5
    (plain, losses), (observed, same) = found
    assert losses == same and len(losses['train/loss_ctr']) == 5 and any(losses['train/loss_ctr'])
    for (tensors, *rest), (others, *others_rest) in zip(plain, observed):
        assert guarded.differing(tensors, others) == [] and rest == others_rest
        assert rest[1:] == [True, False]
    assert len({random for _, random, *_ in plain}) == 5


def test_figures_are_those_of_the_files(tmp_path, data):
    mask = Image.open(data / 'ann/a1.png')
    mask.putpixel((3, 4), 255)
    mask.save(data / 'ann/a1.png')
    runner = tiny.run(tmp_path, data, [tiny.EMA, tiny.PARTS, Sharpen(), audit()], max_iters=3,
                      val=True, visualizer=LOCAL)
    audited.check(audited.read(tmp_path, 3), audited.counted(runner.model, data))
    found = audited.read(tmp_path, 2)
    assert found['pixels'] == 3 * 32 * 32 - 1 and found['images'] == 3 and found['iter'] == 2
    assert found['classes'] == list(tiny.CLASSES) and found['num_parts'] == 2
    used = [row for row in found['parts']['usage'] if row[0] is not None]
    assert used and all(sum(row) == pytest.approx(1) for row in used)
    lines = (tmp_path / 'work').glob('*/vis_data/scalars.json')
    curves = [json.loads(line) for line in next(lines).read_text().splitlines()]
    curves = {line['step']: line for line in curves if 'audit/ece' in line}
    assert set(curves) == {2, 3}
    assert curves[2]['audit/soft_hit_rate'] == pytest.approx(found['soft_hit_rate'])
    assert curves[2]['audit/dominant/3_or_more'] == pytest.approx(found['dominant']['3+'])
    recall = dict(zip(found['classes'], found['per_class']['recall']))
    assert curves[2]['audit/class/recall/sky'] == pytest.approx(recall['sky'])
    assert None not in curves[2].values()


@pytest.mark.parametrize('pad, corners', [(False, False), (True, False), (True, True)])
def test_figures_agree_with_the_validation(tmp_path, data, pad, corners):
    """Where the network sees images of another size than the masks, and padded ones."""
    loader = tiny.val_loader_cfg(data)
    loader['dataset']['pipeline'].insert(1, dict(type='Resize', scale=(44, 20), keep_ratio=False))
    segmentor = tiny.segmentor()
    segmentor['decode_head']['align_corners'] = corners
    if pad:
        segmentor['data_preprocessor']['test_cfg'] = dict(size_divisor=32)
    runner = tiny.run(tmp_path, data, [tiny.EMA, tiny.PARTS, Sharpen(), audit()], val=True,
                      val_dataloader=loader, model=tiny.esl_cfg(segmentor=segmentor))
    with tiny.quiet():
        metrics = runner.val_loop.run()
    found = audited.read(tmp_path, 2)
    assert found['pixels'] == 3 * 32 * 32
    assert 100 * found['hard_accuracy'] == pytest.approx(metrics['teacher/aAcc'], abs=0.006)
    several = 0
    for c, name in enumerate(tiny.CLASSES):
        precision, recall = (found['per_class'][key][c] for key in ('precision', 'recall'))
        if precision:
            iou = 1 / (1 / precision + 1 / recall - 1)
            assert 100 * iou == pytest.approx(metrics[f'teacher/IoU.{name}'], abs=0.006)
            several += 1
    assert several > 1


@pytest.mark.parametrize('method, network', [
    ('UniMatch', 'student'), ('CPS', 'student'), ('MeanTeacher', 'teacher')])
def test_of_any_method_the_network_that_labels(tmp_path, data, monkeypatch, method, network):
    """Right figures, by the audit's own thresholds, and a training that does not notice."""
    said, model = [], dict(type=method, segmentor=tiny.segmentor())
    monkeypatch.setattr('mmengine.logging.MMLogger.info',
                        lambda self, message, *a, **k: said.append(str(message)))
    states = []
    for name, hooks in (('without', []), ('with', [audit(interval=1)])):
        watch = tiny.Watch(lambda runner: [module.training for module in runner.model.modules()])
        runner = tiny.run(tmp_path / name, data, [dict(type='StepHook'), Spread(), *hooks, watch],
                          model=model, max_iters=3, val=True,
                          wrapper=dict(optimizer=dict(type='SGD', lr=0.01)))
        states.append((runner.model.state_dict(), watch.found))
    (plain, modes), (observed, same) = states
    assert guarded.differing(plain, observed) == [] and modes == same
    found = audited.read(tmp_path / 'with', 3)
    audited.check(found, audited.counted(runner.model, data, network=network))
    others = [audited.counted(runner.model, data, network=name)['hard_accuracy']
              for name in runner.model.named() if name != network]
    assert all(abs(found['hard_accuracy'] - other) > 0.01 for other in others)
    assert (found['mass'], found['confidence'], found['network']) == (0.95, 0.95, network)
    lines = [line for line in said if line.startswith('audit of 3 images')]
    assert len(lines) == 3 and f"the {network}'s class is right for" in lines[-1]


def test_by_the_methods_mass_and_the_parts_in_use(tmp_path, data):
    """A class's parts share its pixels out evenly if all that it has are used alike."""
    hooks = [tiny.EMA, dict(type='PartInitHook', adaptive='silhouette'), Sharpen(), audit()]
    model = tiny.run(tmp_path, data, hooks, val=True,
                     model=tiny.esl_cfg(parts=4, mass=0.6)).model
    found = audited.read(tmp_path, 2)
    assert found['mass'] == 0.6
    audited.check(found, audited.counted(model, data, mass=0.6))
    numbers, several = model.part_memory.part_mask.sum(dim=1).tolist(), 0
    for number, usage, entropy in zip(numbers, found['parts']['usage'], found['parts']['entropy']):
        if number > 1 and None not in usage:
            share = np.array([part for part in usage if part])
            assert entropy == pytest.approx(-(share * np.log(share)).sum() / np.log(number))
            several += number < 4 and len(share) > 1
    assert several


def test_figures_are_written_as_json_or_not_at_all(tmp_path):
    with pytest.raises(ValueError, match='JSON'):
        write_json(str(tmp_path / 'a.json'), dict(share=float('nan')))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('variant', ['sup', 'hard'])
def test_without_parts(tmp_path, data, variant):
    tiny.run(tmp_path, data, [tiny.EMA, audit(interval=1)], max_iters=1, val=True,
             model=tiny.esl_cfg(variant))
    found = audited.read(tmp_path, 1)
    assert found['parts'] is None and found['num_parts'] is None
    assert found['soft_hit_rate'] >= found['hard_accuracy'] > 0


def test_parts_are_audited_once_there_are_some(tmp_path, data):
    hooks = [tiny.EMA, dict(type='PartInitHook', begin=2), audit(interval=1, max_images=2)]
    tiny.run(tmp_path, data, hooks, max_iters=3, val=True)
    found = [audited.read(tmp_path, i) for i in (1, 2, 3)]
    assert [f['parts'] is None for f in found] == [True, True, False]
    assert [f['images'] for f in found] == [2, 2, 2]


def test_a_data_set_of_its_own_and_one_line_in_the_log(tmp_path, data, monkeypatch):
    said = []
    monkeypatch.setattr('mmengine.logging.MMLogger.info',
                        lambda self, message, *a, **k: said.append(str(message)))
    tiny.write_data(tmp_path / 'other', labeled=5, size=40)
    tiny.run(tmp_path, data, [tiny.EMA, audit(dataset=tiny.val_loader_cfg(
        tmp_path / 'other')['dataset'], bins=4)], model=tiny.esl_cfg('dsl'))
    found = audited.read(tmp_path, 2)
    assert found['images'] == 5 and found['pixels'] == 5 * 40 * 40
    line, = (line for line in said if line.startswith('audit of 5 images'))
    assert f'{100 * found["soft_hit_rate"]:.1f} %' in line


def test_some_images_are_spread_over_the_list_and_the_ignored_value_is_the_heads(tmp_path, data):
    """Mask i has 2 ** i pixels that a head ignores by a value of its own."""
    other, seg = tmp_path / 'other', tiny.segmentor()
    tiny.write_data(other, labeled=5)
    for i in range(5):
        mask = np.full((32, 32), 2, np.uint8)
        mask[0, :2 ** i] = 1
        Image.fromarray(mask).save(other / f'ann/a{i}.png')
    seg['decode_head']['ignore_index'] = 1
    runner = tiny.runner(tmp_path / 'work', data, [], model=tiny.esl_cfg('dsl', segmentor=seg))
    for bins in ({}, dict(bins=4)):
        hook = PseudoLabelAuditHook(1, tiny.val_loader_cfg(other)['dataset'], max_images=2, **bins)
        hook.before_train(runner)
        counts = hook._audit(runner).counts
        assert counts['bin_pixels'].shape == (3, bins.get('bins', 15))
    assert counts['images'] == 2 and counts['confusion'][1].sum() == 0
    assert 2 * 32 * 32 - counts['confusion'].sum() == 2 ** 0 + 2 ** 2  # of five the first and third


def test_two_ranks_share_the_images_and_the_error(tmp_path):
    said = forked.on_ranks(audited.main, tmp_path)
    assert 'rank 0: RuntimeError: another rank failed while auditing' in said
    assert 'rank 1: FileNotFoundError' in said and 'a1.png' in said


def unlabeled(root):
    return tiny.data_cfg(root, 'UnlabeledDataset', ann_file='unlabeled.txt',
                         pipeline=[dict(type='LoadEmptyAnnotations')])


@pytest.mark.parametrize('dataset, said', [
    (unlabeled, 'LoadEmptyAnnotations in the pipeline of its data set makes masks up'),
    (lambda root: tiny.data_cfg(root, ann_file='labeled.txt'), 'gives images without masks'),
    (lambda root: tiny.data_cfg(root, ann_file='unlabeled.txt',
                                pipeline=[dict(type='LoadAnnotations')]),
     r'cannot load the first image.*b0\.png')])
def test_images_without_masks_are_refused(data, dataset, said):
    with pytest.raises(ValueError, match=f'(?s){said}.*PseudoLabelAuditHook.dataset=...'):
        check_masks(DATASETS.build(dataset(data)))


def test_what_cannot_be_audited_is_refused_at_the_start(tmp_path, data):
    with pytest.raises(ValueError, match='no val_dataloader'):
        tiny.run(tmp_path, data, [tiny.EMA, audit()], model=tiny.esl_cfg('dsl'))
    runner = tiny.runner(tmp_path / 'more', data, [], model=tiny.esl_cfg('dsl'))
    two = dict(tiny.val_loader_cfg(data)['dataset'],
               metainfo=dict(classes=('a', 'b'), palette=tiny.PALETTE[:2]))
    for dataset, said in ((unlabeled(data), 'LoadEmptyAnnotations'),
                          (two, '2 classes and the model 3')):
        with pytest.raises(ValueError, match=said):
            PseudoLabelAuditHook(1, dataset=dataset).before_train(runner)


def test_a_plain_segmentor_is_refused(tmp_path, data):
    with pytest.raises(TypeError, match='EncoderDecoder gives no pseudo labels'):
        tiny.run(tmp_path, data, [audit()], model=ConfigDict(tiny.segmentor()), val=True,
                 val_cfg=dict(type='ValLoop'))


@pytest.mark.parametrize('key', ['interval', 'max_images', 'bins'])
def test_bad_arguments(key):
    with pytest.raises(ValueError, match=f'PseudoLabelAuditHook.{key} must be at least 1, got 0'):
        PseudoLabelAuditHook(**{'interval': 1, key: 0})


def test_a_signal_during_an_audit_saves_and_ends(tmp_path, data):
    """It goes to the audit's loader worker too, as from a terminal or from torchrun."""
    begun = tmp_path / 'begun'
    loader = tiny.val_loader_cfg(data)
    loader['dataset']['pipeline'].insert(0, dict(type='Slow', path=str(begun)))
    child = os.fork()
    if not child:
        os.setpgid(0, 0)
        try:
            tiny.run(tmp_path, data, [tiny.EMA, tiny.PARTS, audit(interval=2)], max_iters=50,
                     val=True, val_dataloader=loader,
                     train_dataloader=dict(tiny.loader_cfg(data), num_workers=1),
                     default_hooks=dict(checkpoint=dict(
                         type='SemiCheckpointHook', by_epoch=False, interval=1000)))
        except SystemExit as end:
            os._exit(end.code)
        finally:
            os._exit(99)
    end = time.monotonic() + 120
    while not (begun.is_file() and begun.read_text().count('.') > 1):  # one came at the start
        assert time.monotonic() < end
        time.sleep(0.01)
    os.killpg(child, signal.SIGTERM)
    assert os.WEXITSTATUS(os.waitpid(child, 0)[1]) == 128 + signal.SIGTERM
    saved, = (tmp_path / 'work').glob('iter_*.pth')
    assert (tmp_path / 'work/audit/iter_2.json').is_file() and saved.name == 'iter_3.pth'
