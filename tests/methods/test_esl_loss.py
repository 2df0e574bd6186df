"""ESL's losses against a straight-line recomputation with lists and loops."""
import copy
from collections import defaultdict

import pytest
import tiny
import torch
import torch.nn.functional as F
from torch import nn

from mmseg_esl.models import views

L, U, C, K, Q, NEG = 2, 3, 4, 2, 3, 7


def split_head(net):
    """(body that ends before the classifier, the classifier)."""
    body = copy.deepcopy(net)
    classifier, body.decode_head.conv_seg = body.decode_head.conv_seg, nn.Identity()
    return body, classifier


class Grid:
    """Images of H x H, and where their pixels lie among features."""

    def __init__(self, size, corners):
        self.size, self.corners = size, corners

    def resize(self, x, size):
        return F.interpolate(x, size=(size, size), mode='bilinear', align_corners=self.corners)

    def big(self, x):
        return self.resize(x, self.size)

    def low(self, x, h):
        """Nearest by index: corners or centres aligned."""
        H = x.shape[-1]
        at = [int(i * (H - 1) / (h - 1) + 0.5) if self.corners else int((i + 0.5) * H / h)
              for i in range(h)]
        return x[..., at, :][..., at]


def pasted(x, mask):
    out = x.clone()
    for n in range(len(x)):
        partner = x[(n + 1) % len(x)]
        for i in range(mask.shape[1]):
            for j in range(mask.shape[2]):
                if mask[n, i, j]:
                    out[n, ..., i, j] = partner[..., i, j]
    return out


def soft_label(p, variant):
    """p: (C,) probabilities of one pixel."""
    if variant.startswith('hard'):
        return F.one_hot(p.argmax(), C).float()
    order = sorted(p.tolist(), reverse=True)
    if variant.startswith('topk'):
        delta = order[1]
    else:
        mass, count = 0.0, 0
        while mass < 0.8:
            mass, count = mass + order[count], count + 1
        delta = order[count - 1]
    kept = torch.tensor([v if v >= delta else 0.0 for v in p.tolist()])
    return kept / kept.sum()


class Reference:
    """Keeps its own prototypes and queues; ``step`` computes the losses of one step."""

    def __init__(self, model, variant, negatives, resolution, grid):
        self.variant, self.negatives, self.resolution = variant, negatives, resolution
        self.grid = grid
        self.prototypes = model.part_memory.prototypes.clone() if model.part_memory else None
        self.queues, self.count = defaultdict(list), defaultdict(int)

    def push(self, part, vector):
        """The newest replaces the oldest, at the oldest's place: the draws count places."""
        queue = self.queues[part]
        if len(queue) < Q:
            queue.append(vector)
        else:
            queue[self.count[part] % Q] = vector
        self.count[part] += 1

    def networks(self, model):
        self.student, self.s_cls = split_head(model.student)
        self.teacher, self.t_cls = split_head(model.teacher)
        self.s_proj, self.t_proj = (copy.deepcopy(m) for m in
                                    (getattr(model, name, None)
                                     for name in ('projector', 'teacher_projector')))

    def step(self, inputs, samples, mask, seed):
        labels = torch.stack([s.gt_sem_seg.data[0] for s in samples])
        with torch.no_grad():
            encoder = self.teacher.backbone(inputs)
            feats = self.teacher.decode_head(encoder)
            big, H = self.grid.big, self.grid.size
            probs = big(self.t_cls(feats)).softmax(1)[L:]
        valid = labels[L:] != 255
        target = torch.zeros(U, C, H, H)
        for n in range(U):
            for i in range(H):
                for j in range(H):
                    target[n, :, i, j] = soft_label(probs[n, :, i, j], self.variant)

        strong = pasted(inputs[L:], mask)
        s_feats = self.student.decode_head(self.student.backbone(torch.cat([inputs[:L], strong])))
        logits = big(self.s_cls(s_feats))
        ce = F.cross_entropy(logits[:L], labels[:L], ignore_index=255, reduction='none').mean()
        log_p = logits[L:].log_softmax(1)
        y, v = pasted(target, mask), pasted(valid, mask)
        sce = -(y * log_p).sum(1)[v].sum() / v.sum()
        out = {'decode.loss_ce': ce, 'loss_sce': 0.2 * sce}
        if 'ctr' in self.variant:
            with torch.no_grad():
                embedding = self.t_proj(feats)
            ctr = self.contrast(self.s_proj(s_feats), embedding, encoder[-1], labels, probs, valid,
                                mask, seed)
            out['loss_ctr'] = 0.1 * ctr
        return out

    def contrast(self, zs, zt, enc, labels, probs, valid, mask, seed):
        h = zs.shape[-1]
        pseudo = probs.argmax(1)
        pseudo[~valid] = 255
        classes = torch.cat([labels[:L], pseudo])
        low, size = self.grid.low, h if self.resolution == 'embedding' else self.grid.size
        classes = low(classes, size)
        enc, pooled = self.grid.resize(enc, size), self.grid.resize(zt, size)
        parts = torch.full(classes.shape, -1)
        members = defaultdict(list)  # part -> encoder features
        for b in range(L + U):
            mine = defaultdict(list)
            for i in range(size):
                for j in range(size):
                    c = int(classes[b, i, j])
                    if c == 255:
                        continue
                    cos = [F.cosine_similarity(enc[b, :, i, j], self.prototypes[c, k], dim=0)
                           for k in range(K)]
                    part = c * K + int(torch.stack(cos).argmax())
                    parts[b, i, j] = part
                    mine[part].append(pooled[b, :, i, j])
                    members[part].append(enc[b, :, i, j])
            for part, vectors in mine.items():
                self.push(part, torch.stack(vectors).mean(0))
        for part, vectors in members.items():
            c, k = divmod(part, K)
            self.next[c, k] = 0.99 * self.prototypes[c, k] + 0.01 * torch.stack(vectors).mean(0)

        classes, parts, mask = low(classes, h), low(parts, h), low(mask, h)
        sure = low(probs.max(1).values, h) > 0.6
        anchors = torch.where(parts >= 0, classes, -1)
        anchors[L:][~sure] = -1
        anchors[L:] = pasted(anchors[L:], mask)
        parts[L:] = pasted(parts[L:], mask)
        return self.info_nce(zs.permute(0, 2, 3, 1).flatten(0, 2), anchors.flatten(),
                             parts.flatten(), seed)

    def info_nce(self, z, anchors, parts, seed):
        torch.manual_seed(seed)
        keys = torch.rand(len(z), dtype=torch.float64)
        slots = min(len(z), int(0.1 * len(z)) + C)
        place = torch.rand(slots, dtype=torch.float64)
        rows = C * K if self.negatives == 'shared' else slots
        draws = torch.rand(rows, NEG, dtype=torch.float64)
        loss, slot = 0.0, 0
        for c in range(C):
            pixels = sorted((i for i in range(len(z)) if anchors[i] == c), key=lambda i: keys[i])
            if pixels:
                pixels = pixels[:max(1, round(0.1 * len(pixels)))]
            terms = []
            for i in pixels:
                own = int(parts[i])
                others = [e for part in range(C * K) if part != own for e in self.queues[part]]
                row = draws[own if self.negatives == 'shared' else slot]
                positive = self.queues[own][int(place[slot] * len(self.queues[own]))]
                scores = [F.cosine_similarity(z[i], e, dim=0) / 0.5 for e in
                          [positive] + [others[int(d * len(others))] for d in row]]
                terms.append(F.cross_entropy(torch.stack(scores)[None], torch.tensor([0])))
                slot += 1
            if terms:
                loss = loss + torch.stack(terms).mean() / C
        self.used = slot
        return loss


def spread(model, H):
    """Scale the classifiers so that the teacher is sure of several classes."""
    with torch.no_grad():
        logits = model.teacher(tiny.batch(L, U, C, H)[0])
        mean, std = logits.mean(dim=(0, 2, 3)), logits.std(dim=(0, 2, 3))
        for network in (model.student, model.teacher):
            conv = network.decode_head.conv_seg
            conv.weight.mul_(3 / std[:, None, None, None])
            conv.bias.copy_(-3 * mean / std)
    best = model.teacher(tiny.batch(L, U, C, H)[0])[L:].softmax(1).max(1)
    assert len(best.indices[best.values > 0.6].unique()) >= 3


def boxes(H):
    mask = torch.zeros(U, H, H, dtype=torch.bool)
    mask[0, 4:25, 8:20] = True
    mask[1, 0:16, 0:31] = True
    mask[2, 9:32, 17:32] = True
    return mask


@pytest.fixture
def double():
    """float32 leaves batch norm over few pixels with gradients that are not worth comparing."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize('variant, negatives, resolution, H, corners', [
    ('dsl+ctr', 'shared', 'embedding', 32, False),
    ('dsl+ctr', 'independent', 'image', 32, False),
    ('hard+ctr', 'shared', 'embedding', 32, False),
    ('topk', 'shared', 'embedding', 32, False),
    ('dsl+ctr', 'shared', 'embedding', 33, True),  # as the paper's configs have it
    ('dsl+ctr', 'independent', 'image', 35, True),  # pixels between those of the features
])
def test_two_steps_equal_the_recomputation(double, monkeypatch, variant, negatives, resolution, H,
                                           corners):
    segmentor = tiny.segmentor(C)
    segmentor['decode_head']['align_corners'] = corners
    model = tiny.esl(variant, segmentor=segmentor, num_classes=C, parts=K, queue=Q, mass=0.8,
                     topk=2, confidence=0.6, num_negatives=NEG, negatives=negatives,
                     part_resolution=resolution)
    spread(model, H)
    mask = boxes(H)
    monkeypatch.setattr(views, 'cutmix_mask', lambda *args, **kwargs: mask)
    if model.part_memory is not None:  # pixels' own features, so that every part has pixels
        with torch.no_grad():
            feats = model.teacher.backbone(tiny.batch(L, U, C, H)[0])[-1]
        feats = feats.permute(0, 2, 3, 1).flatten(0, 2)
        model.part_memory.start(feats[torch.randperm(len(feats))[:C * K]].view(C, K, -1))
    reference = Reference(model, variant, negatives, resolution, Grid(H, corners))
    for seed in (0, 1):
        inputs, samples = tiny.batch(L, U, C, H, seed=seed)
        samples[L + 1].gt_sem_seg.data[:, :10] = 255  # padding that differs between partners
        reference.networks(model)
        if model.part_memory is not None:
            reference.next = reference.prototypes.clone()
        want = reference.step(inputs, samples, mask, seed)
        torch.manual_seed(seed)
        got = model.loss(inputs, samples)

        assert {k for k in got if 'loss' in k} == set(want)
        for key, value in want.items():
            assert value > 0
            torch.testing.assert_close(got[key], value, rtol=1e-9, atol=0, msg=key)
        tiny.total(want).backward()
        model.zero_grad()
        tiny.total(got).backward()
        for name, p in reference.student.named_parameters():
            torch.testing.assert_close(model.student.get_parameter(name).grad, p.grad, rtol=1e-6,
                                       atol=1e-9, msg=name)
        if 'ctr' in variant:
            assert reference.used >= 10
            for name, p in reference.s_proj.named_parameters():
                torch.testing.assert_close(model.projector.get_parameter(name).grad, p.grad,
                                           rtol=1e-6, atol=1e-9, msg=name)
            model.after_optimizer_step(seed)
            reference.prototypes = reference.next
            torch.testing.assert_close(model.part_memory.prototypes, reference.next)
            assert [len(reference.queues[n]) for n in range(C * K)] == \
                model.part_memory.filled.tolist()
