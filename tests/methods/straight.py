"""What second implementations of the methods are written with: torch and mmseg's networks alone."""
from __future__ import annotations

import copy

import pytest
import tiny
import torch
import torch.nn.functional as F

LR, STEPS = 0.05, 3


class Net:
    """A copy of a plain segmentor with the few things that a training loop does."""

    def __init__(self, net):
        self.net = copy.deepcopy(net)

    def encode(self, images):
        return self.net.backbone(images)

    def decode(self, feats, size=(32, 32)):
        return F.interpolate(self.net.decode_head(feats), size, mode='bilinear',
                             align_corners=False)

    def __call__(self, images):
        return self.decode(self.encode(images))

    @torch.no_grad()
    def frozen(self, images):
        """In eval mode, no gradient; as it was afterwards."""
        mode = self.net.training
        self.net.eval()
        out = self(images)
        self.net.train(mode)
        return out

    @torch.no_grad()
    def step(self):
        for p in self.net.parameters():
            p -= LR * p.grad
            p.grad = None

    @torch.no_grad()
    def follow(self, other, momentum):
        mine, theirs = self.net.state_dict(), other.net.state_dict()
        for key, value in mine.items():
            if value.is_floating_point():
                value.copy_(momentum * value + (1 - momentum) * theirs[key])
            else:
                value.copy_(theirs[key])


def settle(model):
    """Running statistics of these images in all networks: eval mode then sees what it knows."""
    norms = [m for m in model.main.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        model.main(tiny.batch(4, 0)[0].to(next(model.parameters()).dtype))
    for norm in norms:
        norm.momentum = 0.1
    for net in model.named(plain=True).values():
        net.load_state_dict(model.main.state_dict())
    return model


def best(logits):
    """Class and probability of the most probable class of each pixel."""
    probs = logits.detach().exp() / logits.detach().exp().sum(dim=1, keepdim=True)
    return probs.argmax(dim=1), probs.amax(dim=1)


def entropies(logits, labels):
    """Cross entropy of each pixel; labels of ignored ones are read as 0."""
    labels = torch.where(labels == 255, 0, labels)
    logs = logits - logits.logsumexp(dim=1, keepdim=True)
    return -logs.gather(1, labels[:, None])[:, 0]


def supervised(logits, labels):
    """mmseg's mean over all pixels, of which the ignored ones are 0."""
    return (entropies(logits, labels) * (labels != 255)).sum() / labels.numel()


def cut(boxes, outside, inside=None):
    """Each image's box is the same box of the next image, of ``inside`` if that is given."""
    inside, out = outside if inside is None else inside, outside.clone()
    for i, box in enumerate(boxes):
        source = inside[(i + 1) % len(boxes)]
        for y, x in box.nonzero().tolist():
            out[i, ..., y, x] = source[..., y, x]
    return out


def compare(model, reference, nets, confidence=None) -> None:
    """``STEPS`` steps of a method and of a straight-line one: losses and all weights.

    Args:
        model: of float64. reference: takes step number, images ``(B, 3, H, W)``, labels
            ``(B, H, W)``, boxes of each strong view; gives the losses by name, whose sum has been
            propagated back and stepped along.
        nets: name -> :class:`Net`.
    """
    boxes, strong = [], model.strong

    def recorded(*args):
        boxes.append(strong(*args))
        return boxes[-1]

    model.strong = recorded
    params = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(params, lr=LR)
    for number in range(STEPS):
        images, samples = tiny.batch(2, 3, seed=number, ignored=3 * number)
        images, model.iter = images.double(), number
        labels = torch.stack([s.gt_sem_seg.data[0] for s in samples])
        boxes.clear()
        torch.manual_seed(number)
        losses = model.loss(images, samples)
        tiny.total(losses).backward()
        optimizer.step()
        optimizer.zero_grad()
        model.after_optimizer_step(number)
        torch.manual_seed(number)
        want = reference(number, images, labels, [view.boxes for view in boxes])
        found = {key: float(value.detach()) for key, value in losses.items() if 'loss' in key}
        assert found == pytest.approx(want, rel=1e-10, abs=1e-10), (number, found, want)
        assert all(value > 0 for value in want.values())
    for name, net in nets.items():
        for key, value in getattr(model, name).state_dict().items():
            other = net.net.state_dict()[key]
            torch.testing.assert_close(value, other, rtol=1e-10, atol=1e-10,
                                       msg=lambda text, at=f'{name}.{key}': f'{at}: {text}')
    del model.strong


def stepped(losses: dict, *nets) -> dict:
    sum(losses.values()).backward()
    for net in nets:
        net.step()
    return {key: float(value.detach()) for key, value in losses.items()}
