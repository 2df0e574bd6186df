"""Who learns, who follows, what is refused, and what stays finite."""
import copy
import warnings

import pytest
import tiny
import torch
from mmseg.registry import MODELS

from mmseg_esl.functional import not_padding
from mmseg_esl.models import views
from mmseg_esl.models.diagnostics import Diagnostics
from mmseg_esl.semi import Batch

VARIANTS = ['sup', 'hard', 'hard+ctr', 'topk', 'topk+ctr', 'dsl', 'dsl+ctr']


def frozen(module):
    return {k: v.clone() for k, v in module.state_dict().items()}


def assert_same(a, b):
    for key in a:
        assert torch.equal(a[key], b[key]), key


def finite(losses):
    for key, value in losses.items():
        assert torch.isfinite(value).all(), f'{key} = {value}'
    tiny.total(losses).backward()


# ------------------------------------------------------------------------------------ gradients


def test_gradients_reach_student_and_projector_only():
    model = tiny.esl(sharp=1.0)
    teacher, projector = frozen(model.teacher), frozen(model.teacher_projector)
    statistics = model.student.backbone.stem[1].running_mean.clone()
    model.loss(*tiny.batch())  # fills the queues
    losses = model.loss(*tiny.batch(seed=1))
    assert losses['loss_ctr'] > 0 and losses['loss_sce'] > 0
    tiny.total(losses).backward()
    assert_same(teacher, model.teacher.state_dict())
    assert_same(projector, model.teacher_projector.state_dict())
    for name, p in model.named_parameters():
        if name.startswith('teacher'):
            assert not p.requires_grad and p.grad is None, name
        else:
            assert p.grad is not None, name
    student = model.student  # the residual branches start at zero: not every gradient moves yet
    for module in (student.backbone.stem[0], student.backbone.layer4[1].bn2,
                   student.decode_head.conv_seg, model.projector.convs[0].conv):
        assert module.weight.grad.any()
    assert not torch.equal(statistics, model.student.backbone.stem[1].running_mean)


@pytest.mark.parametrize('variant', VARIANTS)
@pytest.mark.parametrize('semi, unlabeled', [
    ({}, 2), (dict(warmup_iters=9), 2), (dict(joint_forward=False), 2), ({}, 0)])
def test_every_trainable_parameter_takes_part(variant, semi, unlabeled):
    model = tiny.esl(variant, segmentor=tiny.segmentor(auxiliary=True), sharp=1.0, **semi)
    finite(model.loss(*tiny.batch(unlabeled=unlabeled)))
    without = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not without  # DistributedDataParallel would wait for them


def test_inactive_contrast_still_takes_part():
    model = tiny.esl(start=False)
    model.part_memory.active = False
    losses = model.loss(*tiny.batch())
    assert losses['loss_ctr'] == 0 and losses['loss_sce'] > 0
    finite(losses)
    assert all(p.grad is not None for p in model.projector.parameters())


def test_train_leaves_the_teacher_in_eval():
    model = tiny.esl()
    for mode in (True, False, True):
        model.train(mode)
        assert model.student.training is mode and model.projector.training is mode
        for module in (*model.teacher.modules(), *model.teacher_projector.modules()):
            assert not module.training


# ------------------------------------------------------------------------------------------ EMA


def test_ema_moves_parameters_and_buffers():
    model = tiny.esl()
    finite(model.loss(*tiny.batch()))
    with torch.no_grad():
        for p in (*model.student.parameters(), *model.projector.parameters()):
            p.add_(torch.randn_like(p))
    model.cfg.ema_momentum = 0.9
    assert model.after_optimizer_step(0) == 0
    assert_same(model.student.state_dict(), model.teacher.state_dict())
    assert_same(model.projector.state_dict(), model.teacher_projector.state_dict())
    old = frozen(model.teacher)
    finite(model.loss(*tiny.batch(seed=3)))
    with torch.no_grad():
        for p in model.student.parameters():
            p.mul_(1.5)
    assert model.after_optimizer_step(1) == 0.5
    assert model.after_optimizer_step(50) == 0.9
    for key, now in model.teacher.state_dict().items():
        new = model.student.state_dict()[key]
        if now.is_floating_point():
            half = 0.5 * old[key] + 0.5 * new
            torch.testing.assert_close(now, 0.9 * half + 0.1 * new, msg=key)
        else:
            assert torch.equal(now, new)
    assert model.ema_steps == 3
    name = 'backbone.stem.1.running_var'
    assert not torch.equal(model.teacher.state_dict()[name], old[name])


# ----------------------------------------------------------------------------------- variants


@pytest.mark.parametrize('variant', VARIANTS)
def test_losses_of_each_variant(variant):
    model = tiny.esl(variant)
    keys = {k for k in model.loss(*tiny.batch()) if 'loss' in k}
    want = {'decode.loss_ce'}
    want |= {'loss_sce'} if variant != 'sup' else set()
    want |= {'loss_ctr'} if 'ctr' in variant else set()
    assert keys == want
    assert (model.part_memory is None) == ('ctr' not in variant)
    assert set(model.roles) == {'student', 'teacher'} | (
        {'projector', 'teacher_projector'} if 'ctr' in variant else set())


@pytest.mark.parametrize('key, value', [
    ('variant', 'soft'), ('variant', 'sup+ctr'), ('mass', 1.5), ('mass', -0.1), ('mass', 0.0),
    ('confidence', 0.4), ('confidence', 2), ('anchor_fraction', 0.0), ('warmup_iters', -1),
    ('ramp_iters', -1), ('cutmix_prob', 1.2), ('negatives', 'all'), ('part_resolution', 'half'),
    ('temperature', 0.0), ('topk', 0), ('num_negatives', 0), ('lamda', 1)])
def test_bad_training_keys(key, value):
    with pytest.raises(ValueError, match=key):
        tiny.esl(**{key: value})


def test_bad_test_key():
    with pytest.raises(ValueError, match='predict_on.*both'):
        tiny.esl(test_cfg=dict(predict_on='both'))


def test_warmup_and_ramp():
    model = tiny.esl('dsl', warmup_iters=2, ramp_iters=4, cutmix_prob=0.0)
    inputs, samples = tiny.batch()
    found = []
    for model.iter in range(8):
        found.append(model.loss(inputs, samples).get('loss_sce'))
    assert found[0] is None and found[1] is None
    shares = [float(v / found[-1]) for v in found[2:]]
    assert shares == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1])


def test_the_labels_of_unlabelled_images_do_not_matter():
    model = tiny.esl('dsl', cutmix_prob=0.0)
    inputs, samples = tiny.batch()
    want = model.loss(inputs, samples)
    for s in samples[2:]:
        label = s.gt_sem_seg.data
        label[label != 255] = 2
    got = model.loss(inputs, samples)
    for key in want:
        torch.testing.assert_close(got[key], want[key])


# ------------------------------------------------------------------------- finite and defined


def relabel(samples, which, value=255):
    for i in which:
        samples[i].gt_sem_seg.data.fill_(value)


@pytest.mark.parametrize('which', [[0], [0, 1], [2], [2, 3], [0, 1, 2, 3]])
def test_ignored_images(which):
    model = tiny.esl(sharp=1.0)
    for seed in (0, 1):
        inputs, samples = tiny.batch(seed=seed)
        relabel(samples, which)
        losses = model.loss(inputs, samples)
        if {2, 3} <= set(which):
            assert losses['loss_sce'] == 0
        finite(losses)
        model.after_optimizer_step(seed)
    assert torch.isfinite(model.part_memory.queue).all()
    assert torch.isfinite(model.part_memory.prototypes).all()
    assert bool(model.part_memory.pushed.any()) == (len(which) < 4)


@pytest.mark.parametrize('num_classes', [2, 150])
def test_few_and_many_classes(num_classes):
    model = tiny.esl(num_classes=num_classes, sharp=2.0)
    for seed in (0, 1):
        losses = model.loss(*tiny.batch(num_classes=num_classes, seed=seed))
        finite(losses)
    assert losses['loss_ctr'] > 0


@pytest.mark.parametrize('labeled, unlabeled', [(1, 1), (1, 3), (3, 1)])
def test_uneven_batches(labeled, unlabeled):
    model = tiny.esl(sharp=1.0, cutmix_prob=1.0)
    finite(model.loss(*tiny.batch(labeled, unlabeled)))


def test_absent_classes():
    model = tiny.esl(num_classes=5, sharp=1.0)
    inputs, samples = tiny.batch(num_classes=5)
    relabel(samples, [0, 1], 3)
    finite(model.loss(inputs, samples))


def test_one_filled_queue_has_no_negative():
    """One class, one part: a positive, but nothing to tell it from."""
    model = tiny.esl(parts=1, confidence=1.0)
    inputs, samples = tiny.batch(ignored=0)
    relabel(samples, [0, 1], 1)
    relabel(samples, [2, 3])
    losses = model.loss(inputs, samples)
    assert losses['loss_ctr'] == 0
    finite(losses)


def test_certain_teacher():
    model = tiny.esl(sharp=1.0)
    with torch.no_grad():
        model.teacher.decode_head.conv_seg.bias.copy_(torch.tensor([0., 1e4, 0.]))
    finite(model.loss(*tiny.batch()))
    assert model.diagnostics.pop()['dominant/1'] == 1


# -------------------------------------------------------------------------------- refusals


def test_head_without_conv_seg_is_named():
    seg = tiny.segmentor()
    with pytest.raises(ValueError, match="no module 'nothing'.*decode_head.nothing.*conv_seg"):
        MODELS.build(dict(tiny.esl_cfg(segmentor=seg), embedding='decode_head.nothing'))


def point_rend():
    norm = tiny.NORM
    return tiny.segmentor(
        type='CascadeEncoderDecoder', num_stages=2,
        neck=dict(type='FPN', in_channels=[8, 16, 32, 64], out_channels=8, num_outs=4),
        decode_head=[
            dict(type='FPNHead', in_channels=[8] * 4, in_index=[0, 1, 2, 3],
                 feature_strides=[4, 8, 8, 8], channels=8, dropout_ratio=-1, num_classes=3,
                 norm_cfg=norm, align_corners=False, loss_decode=dict(type='CrossEntropyLoss')),
            dict(type='PointHead', in_channels=[8], in_index=[0], channels=8, num_fcs=1,
                 coarse_pred_each_layer=True, dropout_ratio=-1, num_classes=3,
                 align_corners=False, loss_decode=dict(type='CrossEntropyLoss'))])


def test_point_rend_is_refused_with_a_remedy():
    with pytest.raises(ValueError, match="PointHead has no module 'conv_seg'.*variant='dsl'"):
        tiny.esl(segmentor=point_rend())


def test_sigmoid_head_is_refused_with_a_remedy():
    seg = tiny.segmentor(2)
    seg['decode_head'].update(out_channels=1, threshold=0.3, loss_decode=dict(
        type='CrossEntropyLoss', use_sigmoid=True))
    with pytest.raises(ValueError, match='out_channels=1.*Set out_channels to num_classes'):
        tiny.esl(segmentor=seg)


def test_samples_without_mark_or_out_of_order():
    model = tiny.esl('dsl')
    inputs, samples = tiny.batch()
    with pytest.raises(ValueError, match='labelled images first'):
        model.loss(inputs, samples[::-1])
    with pytest.raises(ValueError, match='labelled images first'):
        model.loss(inputs, [samples[0], samples[2], samples[1], samples[3]])
    with pytest.raises(ValueError, match='labelled images first'):
        model.loss(inputs[2:], samples[2:])
    samples[3] = tiny.sample(samples[3].gt_sem_seg.data[0], None)
    with pytest.raises(ValueError, match='SemiDataset'):
        model.loss(inputs, samples)


def test_contrast_without_prototypes_is_refused():
    model = tiny.esl(start=False)
    with pytest.raises(RuntimeError, match='PartInitHook'):
        model.loss(*tiny.batch())


# ---------------------------------------------------------------------- ways through the student


def test_joint_and_separate_forward_agree_without_batch_statistics(monkeypatch):
    monkeypatch.setattr(views, 'cutmix_mask', lambda num, size, **_: torch.arange(
        32).expand(num, 32, 32) < 11)
    joint, separate = (tiny.esl(sharp=1.0, joint_forward=flag) for flag in (True, False))
    for model in (joint, separate):
        model.eval()
    for seed in (0, 1):
        found = []
        for model in (joint, separate):
            torch.manual_seed(seed)
            found.append(model.loss(*tiny.batch(seed=seed)))
        assert found[0].keys() == found[1].keys()
        for key in found[0]:
            torch.testing.assert_close(found[0][key], found[1][key], msg=key)


def test_cascade_takes_a_step():
    model = tiny.esl(segmentor=tiny.cascade(), sharp=1.0)
    for seed in (0, 1):
        losses = model.loss(*tiny.batch(seed=seed))
        finite(losses)
    assert {'decode_0.loss_ce', 'decode_1.loss_ce', 'loss_sce', 'loss_ctr'} <= set(losses)
    assert losses['loss_ctr'] > 0


@pytest.mark.parametrize('joint', [True, False])
@pytest.mark.parametrize('use', [True, False])
def test_auxiliary_head(joint, use):
    model = tiny.esl('dsl', segmentor=tiny.segmentor(auxiliary=True), auxiliary_loss=use,
                     joint_forward=joint, cutmix_prob=0.0)
    aux = [k for k in model.state_dict() if 'student.auxiliary_head' in k]
    assert aux
    assert all(p.requires_grad is use for p in model.student.auxiliary_head.parameters())
    inputs, samples = tiny.batch()
    losses = model.loss(inputs, samples)
    assert ('aux.loss_ce' in losses) is use
    finite(losses)
    if use:  # of the labelled images alone
        model.eval()
        want = model.student.loss(inputs[:2], samples[:2])['aux.loss_ce']
        inputs[2:] += 1
        torch.testing.assert_close(model.loss(inputs, samples)['aux.loss_ce'], want)


# --------------------------------------------------------------------------------- diagnostics


def test_diagnostics_are_means_over_steps():
    d = Diagnostics()
    assert d.pop() == {}
    for i in range(4):
        d.add('a', torch.tensor(float(i)))
        d.add('v', torch.tensor([i, 2 * i, 3]))
    d.add('b', torch.tensor(7))
    assert d.pop() == {'a': 1.5, 'v': [1.5, 3.0, 3.0], 'b': 7.0}
    assert d.pop() == {}
    d.add('a', torch.tensor(5.))
    assert d.pop() == {'a': 5.0}


def test_diagnostics_of_a_step():
    model = tiny.esl(num_classes=5, sharp=0.3)
    inputs, samples = tiny.batch(num_classes=5)
    for _ in range(2):
        model.loss(inputs, samples)
    found = model.diagnostics.pop()
    shares = [found[f'dominant/{n}'] for n in ('1', '2', '3_or_more')]
    assert sum(shares) == pytest.approx(1) and shares[2] > 0
    probs = model.teacher.encode_decode(inputs[2:], [dict(img_shape=(32, 32))]).softmax(1)
    valid = torch.stack([s.gt_sem_seg.data[0] for s in samples[2:]]) != 255
    assert found['confidence'] == pytest.approx(probs.max(1).values[valid].mean().item(), rel=1e-4)
    assert 1 <= found['dominant/mean'] <= 5
    assert len(found['anchors']) == len(found['parts_used']) == 5
    assert sum(found['anchors']) > 0 and max(found['parts_used']) <= 2


def test_no_hook_is_left_behind():
    model = tiny.esl()
    model.loss(*tiny.batch())
    for module in model.modules():
        assert not module._forward_hooks and not module._forward_pre_hooks
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        copy.deepcopy(model.teacher)


def test_nobody_moves_the_teacher():
    model = tiny.esl('dsl')
    model.driven = False
    with pytest.raises(RuntimeError, match='StepHook'):
        model.loss(*tiny.batch())


def test_padding_is_told_by_the_empty_map_whatever_is_ignored():
    """A head that ignores class 0 must not take the unlabelled images' pixels for padding."""
    seg = tiny.segmentor()
    seg['decode_head']['ignore_index'] = 0
    losses = tiny.esl('dsl', segmentor=seg).loss(*tiny.batch(ignored=0))
    assert losses['loss_sce'] > 0


@pytest.mark.parametrize('pad, ignored', [(0, 0), (0, 255), (2, 2), (255, 255), (9, 9)])
def test_padding_is_where_the_preprocessor_padded(pad, ignored):
    """Whatever it fills label maps with: images of 20 x 24 and of 32 x 32, padded to 32 x 32."""
    seg = tiny.segmentor()
    seg['decode_head']['ignore_index'] = ignored
    seg['data_preprocessor']['seg_pad_val'] = pad
    model, sizes = tiny.esl('dsl', segmentor=seg), [(20, 24), (32, 32), (20, 24), (32, 32)]
    samples = [tiny.sample(torch.full(size, 1 if i < 2 else 0), i < 2)
               for i, size in enumerate(sizes)]
    data = model.data_preprocessor(dict(
        inputs=[torch.randint(256, (3, *size), dtype=torch.uint8) for size in sizes],
        data_samples=samples), training=True)
    batch = Batch.of(data['inputs'], data['data_samples'], ignored)
    inside = torch.zeros(2, 32, 32, dtype=torch.bool)
    inside[0, :20, :24], inside[1] = True, True
    assert torch.equal(batch.valid, inside)
    assert torch.equal(batch.truth, torch.where(inside, 1, -1))
    assert torch.equal(not_padding(batch.labels), torch.cat([inside, inside]))


def test_an_ignored_class_has_no_parts():
    seg = tiny.segmentor()
    seg['decode_head']['ignore_index'] = 0
    model = tiny.esl('dsl+ctr', segmentor=seg, confidence=1.0)  # labelled anchors only
    for _ in range(2):  # the first step fills the queues
        model.loss(*tiny.batch(ignored=0))
        model.part_memory.commit()
    anchors = model.diagnostics.pop()['anchors']
    assert anchors[0] == 0 and min(anchors[1:]) > 0


@pytest.mark.parametrize('kind, key', [('ESL', 'ctr_weight'), ('ESL', 'supervised_weight'),
                                       ('FixMatch', 'unlabeled_weight'), ('CPS', 'cps_weight')])
def test_weights_are_not_negative(kind, key):
    with pytest.raises(ValueError, match=f'semi_train_cfg.{key} must not be negative'):
        tiny.method(kind, **{key: -1.0})
    assert tiny.method(kind, **{key: 0.0})
