"""GCT (Ke et al., ECCV 2020): two networks, and a detector that sees which of them is wrong."""
from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass

import torch
from mmseg.registry import MODELS

from ..functional import (
    at_least_float,
    exchange,
    flaw_target,
    handle_flaws,
    mean_square,
    not_padding,
    probability_mse,
    ramp,
)
from ..models.probe import in_channels
from ..models.running import running
from ..semi import PADDING, Role, SemiSegmentor, SemiTrainCfg, said


@dataclass
class GCTTrainCfg(SemiTrainCfg):
    """Keys of its ``semi_train_cfg``.

    Args:
        dc_weight: of the dynamic consistency, a mean over classes; 0: none, every pixel then counts
            as bad in both for the flaw correction.
        fc_weight: of the flaw correction. fd_weight: of the detector's own loss.
        flaw_threshold: xi, flaw from which on a prediction is bad.
        dc_ramp_iters: iterations over which the dynamic consistency rises, by a sigmoid; 3500 is
            what 3 epochs of VOC 1/8 come to (TorchSemiSeg has 3 everywhere, PixelSSL 3 or 5).
    """
    dc_weight: float = said(100.0, 'weight of the dynamic consistency')
    fc_weight: float = said(1.0, 'weight of the flaw correction')
    fd_weight: float = said(10.0, "weight of the detector's loss")
    flaw_threshold: float = said(0.6, 'ξ, threshold of flaws')
    dc_ramp_iters: int = said(3500, 'ramp of the dynamic consistency, iterations')

    def __post_init__(self):
        super().__post_init__()
        self.check_share('flaw_threshold')


@MODELS.register_module()
class GCT(SemiSegmentor):
    """Where one network is wrong and the other is not, it learns from the other's probabilities;
    where both are, each learns to look right to a detector of flaws, which learns from labels.

    One pass of each network serves all terms and one backward pass all three; the release runs the
    networks twice (so batch norm gathers statistics twice) and steps thrice. The gradients are the
    same: the detector is frozen where networks are judged, predictions are detached where it
    learns. It wants its own optimiser, ``optim_wrapper.networks``, see engine.SeveralOptimizers.
    Unlike the release, padding counts nowhere, nor does the detector learn where there is no label.
    """
    cfg_class = GCTTrainCfg
    roles = {'student': Role(), 'student2': Role(), 'flaw_detector': Role(plain=False)}

    @classmethod
    def published_as(cls, cfg):
        return 'GCT' if (cfg.dc_weight, cfg.fc_weight, cfg.fd_weight) == (100, 1, 10) else None

    @classmethod
    def passes(cls, cfg):  # and the detector's, 0.1 to 0.3 of a forward each
        labeled = 6 if cfg.joint_forward else 12  # losses and logits by a forward each
        return dict(labeled=(labeled, labeled), unlabeled=(6, 6))

    def build_own(self, flaw_detector=None):
        self.flaw_detector = self.here(MODELS.build({
            'type': 'FlawDetector', 'image_channels': in_channels(self.student),
            **(flaw_detector or {}), 'num_classes': self.num_classes}))

    def step(self, batch):
        cfg, num, images = self.cfg, batch.num_labeled, batch.images
        valid, inside = batch.known, not_padding(batch.labels, PADDING)
        losses, logits, probs = {}, [], []
        for name in self.named(plain=True):
            found, views, _ = self.train_on(batch, batch.weak, name=name, labeled=True)
            losses.update(found)
            logits.append(torch.cat([view.logits for view in views]))
            probs.append(at_least_float(logits[-1]).softmax(dim=1))
        # two graphs of the same flaws: into the detector alone, and through it to the networks
        flaws = [self.flaw_detector(images, p.detach(), inside) for p in probs]
        with frozen(self.flaw_detector):
            seen = [self.flaw_detector(images, p, inside) for p in probs]
        *learns, bad = exchange(*(handle_flaws(f.detach(), inside) for f in flaws),
                                threshold=cfg.flaw_threshold)
        if not cfg.dc_weight:
            bad = torch.ones_like(bad)
        losses['loss_dc'] = self.dc_ramp() * cfg.dc_weight * sum(
            probability_mse(mine, theirs, valid, keep=where, divisor=self.divisor)
            for mine, theirs, where in zip(logits, logits[::-1], learns))
        losses['loss_fc'] = self.ramp() * cfg.fc_weight * sum(
            mean_square(phi, bad, valid, self.divisor) for phi in seen)
        known, labels = valid[:num], batch.labels[:num]
        losses['loss_fd'] = cfg.fd_weight / 2 * sum(
            mean_square(f[:num] - flaw_target(p[:num], labels, known), known, known, self.divisor)
            for f, p in zip(flaws, probs))
        for name, where in (('learns/first', learns[0]), ('learns/second', learns[1]),
                            ('both bad', bad)):
            self.diagnostics.add(name, (where & valid).sum() / valid.sum().clamp(min=1))
        return losses

    def dc_ramp(self) -> float:
        """Factor of the dynamic consistency now: 0 in the warm-up, then at least 0.0067."""
        done = self.iter - self.cfg.warmup_iters
        shape = ramp(done / self.cfg.dc_ramp_iters, 'sigmoid') if self.cfg.dc_ramp_iters else 1.0
        return self.ramp() * shape


@contextmanager
def frozen(net):
    """Within the block a network passes gradients on and keeps none; no batch statistics either."""
    params = [p for p in net.parameters() if p.requires_grad]
    try:
        for p in params:
            p.requires_grad_(False)
        with running(net, statistics=False):
            yield
    finally:
        for p in params:
            p.requires_grad_(True)
