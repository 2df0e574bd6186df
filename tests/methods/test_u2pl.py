"""U2PL against a second implementation that goes from pixel to pixel; its relations."""
from __future__ import annotations

import every
import forked
import numpy as np
import pytest
import straight
import tiny
import torch
import u2pl_ranks
from mmengine.hooks import Hook

from mmseg_esl.semi import View

COUNTS = dict(num_anchors=7, num_negatives=5)


def model_of(classes=3, **keys):
    model = tiny.method('U2PL', None, classes, sharp=1.0, **{**COUNTS, **keys}).double()
    for module in model.modules():  # the reference draws no channels
        if isinstance(module, torch.nn.Dropout2d):
            module.p = 0.0
    model.max_iters = 6
    return straight.settle(model)


class Tapped(straight.Net):
    """Gives the classifier's input too."""

    def both(self, images, grad=True):
        caught = []
        hook = self.net.decode_head.conv_seg.register_forward_pre_hook(
            lambda module, args: caught.append(args[0]))
        with torch.set_grad_enabled(grad):
            logits = self(images)
        hook.remove()
        return logits, caught[0]


class Queue:
    """A ring of at most so many rows."""

    def __init__(self, length):
        self.rows, self.length, self.pushed = [None] * length, length, 0

    def push(self, row):
        self.rows[self.pushed % self.length] = row
        self.pushed += 1

    def draw(self, lot):
        return self.rows[int(lot * min(self.pushed, self.length))]


def contrast(queues, classes, negative, member, probs, reps, z, labeled, low, release):
    """Pixel by pixel; all maps as large as the embeddings, reps and z as rows."""
    num, total = len(queues), len(classes)
    anchors, members = ([[] for _ in range(num)] for _ in range(2))
    for i in range(total):
        c, p = int(classes[i]), probs[i].tolist()
        order = sorted(range(num), key=lambda k: (-p[k], k))
        for k in range(num):
            rank = order.index(k)
            fits = rank < low and k != c if i < labeled else low <= rank < 20
            if fits and negative[i]:
                queues[k].push(reps[i])
        if member[i]:
            members[c].append(i)
            if p[c] > 0.3:
                anchors[c].append(i)
    present = [c for c in range(num) if members[c]]
    lots = torch.rand(num * 7, dtype=torch.float64).view(num, 7)
    slots = torch.rand(num * 7, 5, dtype=torch.float64).view(num, 7, 5)
    loss = 0
    for place, c in enumerate(present):
        mine = place if release else c  # the release: lists by class, read by place
        if not anchors[mine] or not queues[c].pushed:
            continue
        mean = reps[members[mine]].mean(dim=0)
        for lot, draws in zip(lots[mine], slots[mine]):
            a = z[anchors[mine][int(lot * len(anchors[mine]))]]
            keys = torch.stack([mean, *(queues[c].draw(draw) for draw in draws)])
            scores = torch.cosine_similarity(a[None], keys) / 0.5
            loss = loss - scores.log_softmax(dim=0)[0] / 7 / len(present)
    return loss


@pytest.mark.parametrize('indexing, classes', [('class', 3), ('class', 5), ('release', 5)])
def test_against_a_straight_line(monkeypatch, indexing, classes):
    model = model_of(classes, contrast_weight=0.3, unlabeled_weight=0.8, indexing=indexing)
    if classes == 5:  # class 0 is nowhere: places and classes differ
        batch = tiny.batch

        def without(*args, **kwargs):
            images, samples = batch(*args, **kwargs)
            for sample in samples:
                if sample.labeled:
                    sample.gt_sem_seg.data[sample.gt_sem_seg.data == 0] = 4
            return images, samples
        monkeypatch.setattr(tiny, 'batch', without)
        for net in model.named(plain=True).values():
            net.decode_head.conv_seg.bias.data[0] = -9
    student, teacher = (Tapped(getattr(model, name)) for name in ('student', 'teacher'))
    head, teacher_head = (straight.Net(getattr(model, name))
                          for name in ('projector', 'teacher_projector'))
    for net in (head, teacher_head):
        net.__class__ = type('Head', (straight.Net,), {'__call__': lambda self, x: self.net(x)})
    queues = [Queue(60)] + [Queue(40) for _ in range(classes - 1)]
    low, pushed = min(3, classes - 1), []

    def reference(number, images, labels, views):
        boxes, = views
        torch.rand(()), torch.rand(3, 3)  # the boxes', which the package drew first
        pseudo, _ = straight.best(teacher.frozen(images[2:]))
        mixed = torch.cat([images[:2], straight.cut(boxes, images[2:])])
        pseudo, valid = straight.cut(boxes, pseudo), straight.cut(boxes, labels[2:] != 255)
        logits, feats = student.both(mixed)
        t_logits, t_feats = teacher.both(mixed, grad=False)
        z, reps = head(feats), teacher_head.frozen(t_feats)
        probs = t_logits.softmax(dim=1)
        entropy = -(probs * probs.log()).sum(dim=1)[2:]
        share = 100 * 0.2 * (1 - number / 6)
        low_bound, high_bound = np.percentile(entropy[valid].numpy(), [share, 100 - share])
        kept = valid & (entropy < high_bound)
        assert 0 < kept.sum() < valid.sum()
        losses = {'decode.loss_ce': straight.supervised(logits[:2], labels[:2])}
        losses['loss_u'] = 0.8 * float(valid.sum()) / float(kept.sum()) * straight.entropies(
            logits[2:], pseudo)[kept].mean()
        known = labels[:2] != 255
        maps = [torch.cat([labels[:2], pseudo]), torch.cat([known, valid & ~kept]),
                torch.cat([known, valid & (entropy <= low_bound)])]
        small = [m[:, 2::4, 2::4].flatten() for m in maps]
        rows = [m.permute(0, 2, 3, 1).flatten(0, 2)
                for m in (probs[..., 2::4, 2::4], reps, z)]
        losses['loss_contrast'] = 0.3 * contrast(
            queues, *small, *rows, 2 * 64, low, indexing == 'release')
        pushed.append([queue.pushed for queue in queues])
        found = straight.stepped(losses, student, head)
        momentum = min(1 - 1 / (number + 1), 0.99)
        teacher.follow(student, momentum)
        teacher_head.follow(head, momentum)
        return found

    straight.compare(model, reference, {'student': student, 'projector': head, 'teacher': teacher,
                                        'teacher_projector': teacher_head})
    memory = model.class_queues
    assert memory.pushed.tolist() == pushed[-1] != pushed[0]
    for c, queue in enumerate(queues):
        for slot, row in enumerate(queue.rows[:int(memory.filled[c])]):
            torch.testing.assert_close(memory.queue[memory.start[c] + slot], row, rtol=1e-10,
                                       atol=1e-10)


def test_whose_queue_a_class_is_compared_with():
    present = torch.zeros(21, dtype=torch.bool)
    present[[0, 8, 15]] = True
    model = tiny.method('U2PL', num_classes=21)
    lender, counted = model._lenders(present)
    assert {c: int(lender[c]) for c in range(21) if counted[c]} == {0: 0, 8: 8, 15: 15}
    model = tiny.method('U2PL', num_classes=21, indexing='release')
    lender, counted = model._lenders(present)
    assert {c: int(lender[c]) for c in range(21) if counted[c]} == {0: 0, 1: 8, 2: 15}


def test_few_kept_pixels_count_for_many():
    """Of ten pixels of rising entropy one is dropped: 10 / 9 of the others' mean."""
    model = model_of(unreliable=0.2)
    model.iter = 3  # of 6
    row = torch.arange(1.0, 11.0).view(1, 1, 10)
    certain, uncertain = model._bounds(row, 0.2 * (1 - model.progress))
    assert float(uncertain) == pytest.approx(9.1) and float(certain) == pytest.approx(1.9)
    inputs, samples = tiny.batch(2, 2, ignored=0)
    seen = {}
    for share in (0.0, 0.2):
        model = model_of(unreliable=share)
        torch.manual_seed(4)
        seen[share] = float(model.loss(inputs.double(), samples)['loss_u'].detach())
        kept = model.diagnostics.pop()['kept']
        assert kept == pytest.approx(1 - share, abs=1e-3)
    assert seen[0.2] != pytest.approx(seen[0.0], rel=1e-3)


def test_gradients_of_the_contrast_reach_the_student_alone():
    model = model_of()
    before = {key: value.clone() for key, value in model.class_queues.state_dict().items()}
    inputs, samples = tiny.batch()
    model.loss(inputs.double(), samples)['loss_contrast'].backward()
    for name in ('student', 'projector'):
        assert sum(p.grad.abs().sum() for p in getattr(model, name).parameters()
                   if p.grad is not None) > 0
    for name in ('teacher', 'teacher_projector', 'class_queues'):
        assert all(p.grad is None for p in getattr(model, name).parameters())
    assert all(torch.equal(before[k], v) for k, v in model.class_queues.state_dict().items())
    model.after_optimizer_step(0)
    assert model.class_queues.pushed.sum() > 0


def contrasted(model, own, negative=True, z=None):
    """The contrast of 4 x 4 pixels of classes 0 and 1 whose probability the teacher calls ``own``,
    in a labelled image and another one; all pixels are reliable."""
    classes = torch.arange(32).view(2, 4, 4) % 2
    others = torch.where(torch.arange(3).view(1, 3, 1, 1) == 2, 0.0, torch.tensor(
        (1 - own) / own).log())
    logits = torch.where(torch.arange(3).view(1, 3, 1, 1) == classes[:, None], 0.0, others)
    logits = torch.where(torch.arange(3).view(1, 3, 1, 1) == 2, -1e9, logits).double()
    teacher = View(logits, torch.randn(2, 10, 4, 4).double())
    z = torch.randn(2, 10, 4, 4).double() if z is None else z
    every = torch.ones_like(classes, dtype=torch.bool)
    return model._contrast(teacher, z, classes, every, every & negative, 1)


def test_who_is_an_anchor():
    """A pixel surer of its class than the key says; not as sure."""
    model = model_of(anchor_confidence=0.5)
    assert contrasted(model, 0.75) > 0
    assert contrasted(model, 0.5) == 0


def test_nothing_is_compared_with_an_empty_queue():
    assert contrasted(model_of(), 0.75, negative=False) == 0
    one = torch.zeros(2, 4, 4, dtype=torch.bool)
    one[0, 0, 0] = True  # a labelled pixel of class 0 enters the queue of class 1
    assert contrasted(model_of(), 0.75, negative=one) > 0


def test_only_classes_with_anchors_are_drawn():
    """Class 0 has none: its pixels are as unsure as others are sure."""
    model = model_of()
    z = torch.randn(2, 10, 4, 4, dtype=torch.float64, requires_grad=True)
    classes = torch.arange(32).view(2, 4, 4) % 2
    logits = torch.stack([0 * classes - 9.0, 0.0 * classes, 0 * classes - 99.0], dim=1).double()
    every = torch.ones_like(classes, dtype=torch.bool)
    loss = model._contrast(View(logits, torch.randn(2, 10, 4, 4).double()), z, classes, every,
                           every, 1)
    grad, = torch.autograd.grad(loss, z)
    assert loss > 0 and not grad.transpose(0, 1)[:, classes == 0].any()


def test_a_class_of_one_pixel():
    model = model_of()
    classes = torch.zeros(2, 4, 4, dtype=torch.long)
    classes[0, 1, 2] = 1
    logits = 9 * torch.nn.functional.one_hot(classes, 3).movedim(3, 1).double()
    every = torch.ones_like(classes, dtype=torch.bool)
    z = torch.randn(2, 10, 4, 4, dtype=torch.float64, requires_grad=True)
    loss = model._contrast(View(logits, torch.randn(2, 10, 4, 4).double()), z, classes, every,
                           every, 1)
    grad, = torch.autograd.grad(loss, z)
    assert loss > 0 and grad[0, :, 1, 2].any()


def test_ranks_of_an_uncertain_pixel_s_negatives():
    """It enters the queues of the classes of these ranks: one class more, one entry more."""
    pushed = []
    for high in (3, 4, 5):
        model = model_of(5, low_rank=1, high_rank=high)
        model.loss(tiny.batch(2, 3, 5)[0].double(), tiny.batch(2, 3, 5)[1])
        model.after_optimizer_step(0)
        pushed.append(int(model.class_queues.pushed.sum()))
    assert pushed[2] - pushed[1] == pushed[1] - pushed[0] > 0


def test_one_kept_pixel_of_two_counts_twice():
    model = tiny.method('U2PL', every.pointwise(), sharp=1.0, unreliable=0.0, **COUNTS)
    model.double().eval()
    inputs, samples = tiny.batch(2, 1)
    samples[2].gt_sem_seg.data.fill_(255)
    samples[2].gt_sem_seg.data[0, 6, 6:8] = 0
    loss = model.loss(inputs.double(), samples)['loss_u'].detach()
    probs = model.see('teacher', inputs[2:].double()).logits.softmax(dim=1)[0, :, 6, 6:8]
    entropy = -(probs * probs.log()).sum(dim=0)
    torch.testing.assert_close(loss, -2 * probs[:, entropy.argmin()].max().log())


@pytest.mark.parametrize('keys, match', [
    (dict(sampling='image'), "sampling must be 'batch'"), (dict(low_rank=0), 'low_rank'),
    (dict(low_rank=5, high_rank=5), 'low_rank'), (dict(unreliable=1.5), 'unreliable'),
    (dict(indexing='place'), 'indexing'), (dict(temperature=0), 'temperature')])
def test_bad_keys(keys, match):
    with pytest.raises(ValueError, match=match):
        tiny.method('U2PL', **keys)


def test_how_far_the_training_is(tmp_path):
    class Look(Hook):
        found = []

        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            self.found.append(runner.model.progress)

    tiny.write_data(tmp_path / 'data')
    tiny.run(tmp_path, tmp_path / 'data', [dict(type='StepHook'), Look()], max_iters=4,
             model=tiny.method_cfg('U2PL', **COUNTS))
    assert Look.found == [0, 0.25, 0.5, 0.75]
    assert tiny.method('U2PL').progress == 0  # nobody says how long it is


def test_two_processes_are_one():
    """Percentiles, queues and the means that draw: those of all images, on every rank."""
    found = forked.result(forked.on_ranks(u2pl_ranks.main))
    assert found['bounds'] == found['bounds of one'] and found['bounds'] != found['own bounds']
    assert found['queues alike'] and found['pushed'] > 0
    assert found['losses'] == pytest.approx(found['losses of one'], rel=1e-5)
