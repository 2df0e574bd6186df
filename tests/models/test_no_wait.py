"""A whole step waits for no device, and its own work is bounded whatever the classes and parts.

The operators that wait are dispatched on a CPU as well: see dev/bench/counting.py.
"""
import pytest
import tiny
import torch
from bench.counting import SyncCounter

from mmseg_esl.functional.contrast import SumOverBlocks
from mmseg_esl.semi import Batch

OHEM = dict(type='OHEMCrossEntropyLoss', min_kept=100)
MEAN = dict(type='CrossEntropyLoss', avg_non_ignore=True)
WEIGHTED = dict(type='CrossEntropyLoss', avg_non_ignore=True, class_weight=[1.0, 2.0, 0.5])


def with_loss(loss, auxiliary=False):
    cfg = tiny.segmentor(auxiliary=auxiliary)
    cfg['decode_head']['loss_decode'] = loss
    return cfg


@pytest.mark.parametrize('loss', [OHEM, MEAN, WEIGHTED, [MEAN, dict(OHEM, loss_name='loss_hard')]])
@pytest.mark.parametrize('variant, options', [
    ('dsl+ctr', {}), ('dsl+ctr', dict(negatives='independent')),
    ('dsl+ctr', dict(sampling='image')), ('hard+ctr', dict(auxiliary_loss=True)),
    ('topk+ctr', {}), ('topk+ctr', dict(negatives='independent')),
    ('topk', dict(cutmix_prob=1.0)), ('sup', {})])
def test_from_the_teacher_to_the_ema(variant, options, loss):
    model = tiny.esl(variant, with_loss(loss, auxiliary=True), sharp=1.0, **options)
    with SyncCounter() as counter:
        losses = model.loss(*tiny.batch())
        total, _ = model.parse_losses(losses)
        total.backward()
        model.after_optimizer_step(3)
        model.loss(*tiny.batch())
        model.after_skipped_step()
    assert counter.all > 500 and not counter.waits
    assert not variant.endswith('+ctr') or losses['loss_ctr'] > 0  # anchors were compared


def extra_operations(classes, parts, images) -> int:
    """What a step's forward does beside the forwards of its two networks."""
    model = tiny.esl('dsl+ctr', num_classes=classes, parts=parts, sharp=1.0)
    inputs, samples = tiny.batch(images, images, classes)
    with SyncCounter() as step:
        model.loss(inputs, samples)
    with SyncCounter() as networks:
        model.see('teacher', inputs, encoder=True, num_logits=images,
                  tap=model._tap('teacher_projector'))
        model.train_on(Batch.of(inputs, samples), inputs[images:], tap=model._tap('projector'))
    return step.all - networks.all


def test_operations_do_not_grow_with_classes_or_parts(monkeypatch):
    """But for more chunks of anchors where there are many parts, each of the same operations."""
    settings = [(2, 1), (7, 5), (40, 5), (81, 10)]
    default = SumOverBlocks.CELLS
    monkeypatch.setattr(SumOverBlocks, 'CELLS', 10 ** 9)  # all in one chunk
    alone = {extra_operations(c, k, 2) for c, k in settings}
    assert len(alone) == 1
    monkeypatch.setattr(SumOverBlocks, 'CELLS', default)
    monkeypatch.setattr(SumOverBlocks, 'MORE', 1)
    chunks, differentiate = [], torch.autograd.grad

    def grad(*args, **kwargs):
        chunks[-1] += not kwargs  # torch itself calls it again under a mode, by keyword
        return differentiate(*args, **kwargs)

    monkeypatch.setattr(torch.autograd, 'grad', grad)  # once for each chunk
    for c, k in settings:
        chunks.append(0)
        more = extra_operations(c, k, 2) - max(alone)
        assert more <= 150 * (chunks[-1] - 1)
    assert chunks[0] == 1 < chunks[-1]


def test_operations_of_an_image_are_few():
    two, four = (extra_operations(3, 2, images) for images in (2, 4))
    assert 0 < four - two <= 150 * 4  # two images of each kind more


class Count(tiny.Hook):
    """Counts what an iteration dispatches and waits for, from before all hooks to after all."""

    priority = 'VERY_HIGH'

    def __init__(self):
        self.found = []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.counter = SyncCounter()
        self.counter.__enter__()

    def end(self, runner):
        self.counter.__exit__(None, None, None)
        self.found.append(dict(self.counter.waits))


@pytest.mark.parametrize('clip, waits', [(None, 1), (dict(max_norm=1.0), 2)])
def test_an_iteration_waits_for_the_verdict_alone(tmp_path, clip, waits):
    """All hooks of a run included; clipping makes mmengine read the gradients' norm."""
    tiny.write_data(tmp_path / 'data')
    count = Count()
    hooks = [tiny.EMA, tiny.PARTS, dict(type='DiagnosticsHook'), dict(type='RunStateHook'),
             dict(type='FiniteGuardHook'), count, tiny.Watch(count.end)]
    tiny.run(tmp_path, tmp_path / 'data', hooks, max_iters=5, interval=10 ** 6,
             wrapper=dict(clip_grad=clip))
    assert len(count.found) == 5
    for found in count.found[1:-1]:  # the first clusters prototypes, the last reads the log
        assert found == dict(_local_scalar_dense=waits)
