"""TeacherStudentValLoop and the per-class metric against confusion matrices counted in loops."""
import pickle

import numpy as np
import pytest
import tiny
import torch
from PIL import Image

from mmseg_esl.engine import PerClassIoUMetric


@pytest.fixture
def data(tmp_path):
    tiny.write_data(tmp_path / 'data')
    return tmp_path / 'data'


def test_both_networks_are_validated(tmp_path, data):
    with tiny.quiet():
        runner = tiny.runner(tmp_path / 'work', data, [dict(type='TeacherEMAHook')], val=True,
                             model=tiny.esl_cfg('dsl'))
        model = runner.model
        for p in model.student.parameters():
            torch.nn.init.normal_(p, std=0.3)
        before, kinds = dict(model.semi_test_cfg), []
        model.student.decode_head.conv_seg.register_forward_hook(
            lambda module, args, out: kinds.append(out.dtype))
        metrics = runner.val()
    assert set(kinds) == {torch.float32}  # half precision is what val_cfg.fp16 asks for
    assert list(metrics)[0].startswith('teacher/')  # that predicts; mmengine's save_best='auto'
    assert model.semi_test_cfg == before == dict(predict_on='teacher')
    names = ('a0', 'a1', 'a2')
    for which in ('teacher', 'student'):
        net, confusion = getattr(model, which), np.zeros((3, 3))
        for name in names:
            image = np.array(Image.open(data / 'img' / f'{name}.png')).astype(np.float32)
            mask = np.array(Image.open(data / 'ann' / f'{name}.png'))
            x = torch.from_numpy((image - 127.5) / 127.5).permute(2, 0, 1)[None]
            with torch.no_grad():
                logits = torch.nn.functional.interpolate(net.eval()(x), size=mask.shape,
                                                         mode='bilinear')
            for p, t in zip(logits.argmax(1)[0].numpy().ravel(), mask.ravel()):
                confusion[t, p] += 1
        inter = np.diag(confusion)
        iou = inter / (confusion.sum(0) + confusion.sum(1) - inter)
        assert metrics[f'{which}/mIoU'] == pytest.approx(100 * np.nanmean(iou), abs=0.011)
        for c, value in zip(tiny.CLASSES, iou):
            assert metrics[f'{which}/IoU.{c}'] == pytest.approx(100 * value, abs=0.011)
    assert metrics['teacher/mIoU'] != metrics['student/mIoU']


def test_each_network_writes_its_own(tmp_path, data):
    """Masks of a metric, dumped results and pictures: of the student beside the teacher's."""
    kinds = [dict(type='PerClassIoUMetric', output_dir=str(tmp_path / 'masks')),
             dict(type='mmengine.DumpResults', out_file_path=str(tmp_path / 'all.pkl'))]
    with tiny.quiet():
        runner = tiny.runner(
            tmp_path / 'work', data, [tiny.EMA, dict(type='SegVisualizationHook', draw=True,
                                                     interval=1)],
            val=True, model=tiny.esl_cfg('dsl'), val_evaluator=kinds, visualizer=dict(
                type='SegLocalVisualizer', name=str(tmp_path), alpha=1.0,
                vis_backends=[dict(type='LocalVisBackend')]))
        heads = [net.decode_head.conv_seg for net in (runner.model.teacher, runner.model.student)]
        for number, head in enumerate(heads):
            torch.nn.init.zeros_(head.weight)
            head.bias.data = torch.eye(3)[number]  # the number of the network everywhere
        runner.val()
    for number, name in enumerate(('teacher', 'student')):
        for stem in ('a0', 'a1', 'a2'):
            assert (np.array(Image.open(tmp_path / f'masks/{name}/{stem}.png')) == number).all()
        dumped = pickle.loads((tmp_path / f'all_{name}.pkl').read_bytes())
        assert all((one['pred_sem_seg']['data'] == number).all() for one in dumped)
        pictures = list((tmp_path / 'work').glob(f'*/vis_data/vis_image/{name}_val_a?.png*'))
        assert len(pictures) == 3
    assert sorted(path.name for path in tmp_path.glob('masks/*')) == ['student', 'teacher']
    assert runner.val_evaluator.metrics[0].output_dir == str(tmp_path / 'masks')
    assert 'add_datasample' not in vars(runner.visualizer)
    with tiny.quiet():
        runner.val()  # into the folders that are there
    assert sorted(path.name for path in tmp_path.glob('masks/*')) == ['student', 'teacher']


def test_only_whole_segmentors_are_validated(tmp_path, data):
    """GCT's flaw detector gives no labels."""
    with tiny.quiet():
        runner = tiny.runner(tmp_path / 'work', data, [], val=True, model=tiny.method_cfg('GCT'))
        found = {key.split('/')[0] for key in runner.val()}
    assert found == set(runner.model.named(plain=True)) < set(runner.model.named())


def test_training_validates_at_its_end(tmp_path, data):
    runner = tiny.run(tmp_path, data, [dict(type='TeacherEMAHook')], val=True,
                 model=tiny.esl_cfg('sup', test_cfg=dict(predict_on='student')))
    logged = runner.message_hub.log_scalars
    assert 'val/teacher/mIoU' in logged and 'val/student/mIoU' in logged
    assert runner.model.semi_test_cfg['predict_on'] == 'student'


def test_the_best_by_a_metric_with_a_prefix(tmp_path, data):
    evaluator = dict(type='PerClassIoUMetric', iou_metrics=['mIoU'], prefix='val')
    runner = tiny.run(tmp_path, data, [tiny.EMA], val=True, val_evaluator=evaluator,
                      model=tiny.esl_cfg('dsl'), default_hooks=dict(checkpoint=dict(
                          type='SemiCheckpointHook', by_epoch=False, interval=2,
                          save_best='teacher/val/mIoU')))
    best, = (tmp_path / 'work').glob('best_teacher_val_mIoU_iter_*.pth')
    score = runner.message_hub.get_info('best_score')
    assert score == runner.message_hub.get_scalar('val/teacher/val/mIoU').current()


def test_predict_on_is_restored_after_a_failure(tmp_path, data):
    with tiny.quiet():
        runner = tiny.runner(tmp_path / 'work', data, [], val=True, model=tiny.esl_cfg('dsl'))

    def fail(*_, **__):
        raise OSError('disk')

    runner.model.student.predict = fail
    with pytest.raises(OSError, match='disk'):
        runner.val()
    assert runner.model.semi_test_cfg['predict_on'] == 'teacher'


def test_per_class_iou_equals_a_naive_confusion_matrix():
    metric = PerClassIoUMetric(iou_metrics=['mIoU'])
    metric.dataset_meta = dict(classes=('a', 'b', 'c', 'never'))
    rng, confusion = np.random.RandomState(0), np.zeros((4, 4))
    for _ in range(3):
        label, pred = rng.randint(0, 3, (9, 11)), rng.randint(0, 3, (9, 11))
        label[0, :4] = 255
        metric.process({}, [dict(
            gt_sem_seg=dict(data=torch.from_numpy(label)[None]),
            pred_sem_seg=dict(data=torch.from_numpy(pred)[None]))])
        for t, p in zip(label.ravel(), pred.ravel()):
            if t != 255:
                confusion[t, p] += 1
    with tiny.quiet():
        found = metric.evaluate(3)
    for i, name in enumerate('abc'):
        union = confusion[i].sum() + confusion[:, i].sum() - confusion[i, i]
        assert found[f'IoU.{name}'] == pytest.approx(100 * confusion[i, i] / union, abs=0.006)
        assert found[f'IoU.{name}'] == round(found[f'IoU.{name}'], 2)  # as mmseg's mIoU
    assert np.isnan(found['IoU.never'])
    mean = np.mean([found[f'IoU.{n}'] for n in 'abc'])
    assert found['mIoU'] == pytest.approx(mean, abs=0.011)
