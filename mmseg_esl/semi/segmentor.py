"""The frame of a method: its networks, one checked batch, averages, staged memory, checkpoints."""
from __future__ import annotations

from copy import deepcopy
from typing import Callable

import torch
from mmengine.dist import all_reduce_params, get_rank, get_world_size
from mmengine.model import BaseModel
from mmseg.registry import MODELS
from torch import Tensor, nn

from ..functional import ema_momentum, ema_update, ramp
from ..functional.phases import phase
from ..models.diagnostics import Diagnostics
from ..models.finite_watch import FiniteWatch
from ..models.image_draws import ImageDraws
from ..models.running import alone_explained, running
from ..models.segmentors import build_segmentor, main_head, on_this_machine
from ..models.staged import Staged
from ..models.supervised import connected_zero, mean_over_ranks, scaled
from ..models.views import Strong, View, strong_view
from ..storage.fit import check_fit
from ..storage.keys import to_method
from . import network
from .batch import Batch
from .roles import Role, first_average
from .train_cfg import SemiTrainCfg


class SemiSegmentor(BaseModel):
    """Base of all methods. A method is its ``roles``, its config and ``step(batch)``.

    A network is in the state dict under its role's name, a plain one exactly as the plain
    segmentor: a plain checkpoint fills every plain network, and any can be exported to one.

    Args:
        segmentor: config of any mmseg EncoderDecoder (softmax over C >= 2 channels).
        strong_view: config of a colour augmentation of the unlabelled images, or None.
        semi_train_cfg: see the method's own config class.
        semi_test_cfg: ``predict_on``, the plain network that is evaluated; by default the first
            average, else the first network.
        data_preprocessor: for a segmentor config without one (mmengine's Runner passes it).
        train_cfg, test_cfg, pretrained: ignored; mmseg's inference API sets them on any model.
        own: what else the method is made of, see its ``build_own``.
    """
    cfg_class = SemiTrainCfg
    roles: dict[str, Role] = {'student': Role()}
    title = ''  # as tables and reports call the method; '' = its class's name
    hooks: tuple[str, ...] = ('StepHook',)  # what has to run beside it
    apart = False  # labelled or other images have a training forward of their own
    may_be_infinite: tuple[str, ...] = ()  # of the names of tensors; SemiCheckpointHook sets it
    tapped: tuple[str, ...] = ()  # paths, in a segmentor, of modules whose input is listened to

    def __init__(self, segmentor: dict, strong_view: dict | None = None,
                 semi_train_cfg: dict | None = None, semi_test_cfg: dict | None = None,
                 data_preprocessor: dict | None = None, train_cfg=None, test_cfg=None,
                 pretrained=None, init_cfg=None, **own):
        super().__init__(init_cfg=init_cfg)
        self.cfg = self.parse_cfg(semi_train_cfg)
        self.roles = self.roles_of(self.cfg)
        # set by StepHook; of labelled images each counts once, and 0: nobody knows
        self.iter, self.max_iters, self.driven, self.seed, self.labeled_images = 0, 0, False, 0, 0
        self.watch, self.step_refused = FiniteWatch(), False  # used by FiniteGuardHook
        self.diagnostics = Diagnostics()
        for name, role in self.roles.items():
            if role.plain and not role.follows:
                net = build_segmentor({'data_preprocessor': data_preprocessor, **segmentor})
                if getattr(net, 'with_auxiliary_head', False) and not self.cfg.auxiliary_loss:
                    net.auxiliary_head.requires_grad_(False)
                setattr(self, name, self.here(net))
        self.data_preprocessor = self.main.data_preprocessor
        self.build_own(**own)
        for name, role in self.roles.items():
            if role.follows:
                source = getattr(self, role.follows)
                setattr(self, name, deepcopy(source).requires_grad_(False).eval())
        self.strong_view = strong_view and MODELS.build(strong_view)
        self.register_buffer('ema_steps', torch.zeros((), dtype=torch.long))
        self.semi_test_cfg = {'predict_on': first_average(self.roles), **(semi_test_cfg or {})}
        self.predictor  # noqa: B018  (raises on a wrong predict_on)

    # ---- what a method says of itself ----------------------------------------------------------

    @classmethod
    def parse_cfg(cls, cfg: dict | None):
        """``semi_train_cfg`` as the method's dataclass; ValueError names keys it has not."""
        try:
            return cls.cfg_class(**(cfg or {}))
        except TypeError as error:
            known = ', '.join(cls.cfg_class.__dataclass_fields__)
            raise ValueError(f'semi_train_cfg: {error}; known keys: {known}') from error

    @classmethod
    def roles_of(cls, cfg) -> dict[str, Role]:
        """The networks under a config, trained ones first."""
        return dict(cls.roles)

    @classmethod
    def hooks_of(cls, cfg) -> tuple[str, ...]:
        """Types of the hooks without which it does not train under a config."""
        return cls.hooks

    @classmethod
    def name_of(cls, cfg) -> str:
        """What tables and reports call the method under a config."""
        return cls.title or cls.__name__

    @classmethod
    def published_as(cls, cfg) -> str | None:
        """Its name in published tables (docs/results/paper_results.csv); None: it is in none."""
        return None

    @classmethod
    def passes(cls, cfg) -> dict[str, tuple[float, float]]:
        """Cost of a step, ``{'labeled': (encoder, decoder), 'unlabeled': ...}``, of one image.

        In forwards, 3 with backward; mixed and perturbed images count for those they are made of.
        """
        raise NotImplementedError

    @classmethod
    def fallbacks(cls, net: nn.Module) -> list[tuple[dict, str]]:
        """Settings, best first, and what each means, if a segmentor cannot take a step as it is."""
        return []

    def build_own(self) -> None:
        """Build what else the method has: heads, memories. The trained networks are there."""

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """The losses of one batch, in the order of the paper; ``loss`` in a name: it is added."""
        raise NotImplementedError

    # ---- the frame -----------------------------------------------------------------------------

    def forward(self, inputs: Tensor, data_samples=None, mode: str = 'tensor'):
        """mmengine's interface: 'loss' trains; 'predict' and 'tensor' ask the chosen network."""
        if mode == 'loss':
            return self.loss(inputs, data_samples)
        return self.predictor(inputs, data_samples, mode=mode)

    def loss(self, inputs: Tensor, data_samples) -> dict[str, Tensor]:
        """One step on ``(B_l + B_u, 3, H, W)`` weak views, labelled first: losses by name.

        Raises:
            ValueError: a wrong batch, or too few images for batch norm. RuntimeError: no StepHook.
        """
        batch = Batch.of(inputs, data_samples, self.ignore_index)
        if not self.driven:
            raise RuntimeError(
                "nobody moves the averages and counts iterations: add dict(type='StepHook') to "
                'the hooks (a custom_hooks list given in a leaf replaces the inherited one)')
        self.watch.images('input image', inputs, data_samples)
        with alone_explained():
            if self.ramp() == 0 or not len(batch.weak):
                return self.supervised(batch)
            return self.step(batch)

    def supervised(self, batch: Batch, company: bool = True, **kwargs) -> dict[str, Tensor]:
        """Losses of the labelled images alone, of the networks that are ``warmed``.

        Args:
            company: a single labelled image would leave batch norm after global pooling with one
                value: let the weak views keep it company. kwargs: of ``train_on``.
        """
        views, losses = ([batch.weak] if company and batch.num_labeled == 1 else []), {}
        for name in self.warmed:
            losses.update(self.train_on(batch, *views, name=name, **kwargs)[0])
        rest = [net for name, net in self.named(trained=True).items() if name not in self.warmed]
        return {**losses, 'loss_unused': connected_zero(*rest)} if rest else losses

    def parse_losses(self, losses: dict) -> tuple[Tensor, dict]:
        """As mmengine's; terms are watched and kept, see FiniteGuardHook and DiagnosticsHook."""
        loss, terms = super().parse_losses(losses)
        self.diagnostics.record(terms)
        self.watch.terms('loss term', {k: v for k, v in terms.items() if 'loss' in k})
        return loss, terms

    @phase('EMA')
    def after_optimizer_step(self, step: int) -> float | None:
        """Commit what is staged and move the averages; StepHook calls it once a real step.

        Args:
            step: number of steps before this one.

        Returns:
            the momentum of the last average that moved; None if none has.
        """
        for memory in (self.diagnostics, *self.staged):
            memory.commit()
        for net in self.gathering.values():
            # a plain batch norm (CPU, norm_cfg BN) has seen this rank's images alone; what is
            # averaged, evaluated and saved must agree
            all_reduce_params([b for b in net.buffers() if b.is_floating_point()], op='mean')
        used = None
        for name, average in self.named(trained=False).items():
            momentum = self.momentum(name, step)
            if momentum is not None:
                used, source = momentum, getattr(self, self.roles[name].follows)
                ema_update(average, source, used, buffers=self.cfg.ema_buffers)
        self.ema_steps.add_(1)
        return used

    def momentum(self, name: str, step: int) -> float | None:
        """Of an average at a step (0, 1, ...); None: it stays as it is."""
        if self.cfg.ema_schedule == 'constant':
            return self.cfg.ema_momentum
        return ema_momentum(step, self.cfg.ema_momentum)

    def after_skipped_step(self) -> None:
        """The optimiser refused the step: take back what it has staged."""
        for memory in (self.diagnostics, *self.staged):
            memory.rollback()

    @property
    def staged(self) -> list[Staged]:
        """Whatever a step changes beside the networks."""
        return [module for module in self.modules() if isinstance(module, Staged)]

    def train(self, mode: bool = True):
        """As usual, but averages stay in eval mode: their batch norm must not see batches."""
        super().train(mode)
        for net in self.named(trained=False).values():
            net.train(mode and self.cfg.teacher_mode == 'train')
        return self

    def init_weights(self) -> None:
        """Initialise (or load pretrained weights into) the trained networks; copy to averages."""
        for net in self.named(trained=True).values():
            net.init_weights()
        for name, average in self.named(trained=False).items():
            ema_update(average, getattr(self, self.roles[name].follows), 0.0)
        self._is_init = True

    def _load_from_state_dict(self, state_dict, prefix, *args, **kwargs):
        if not prefix:  # a whole checkpoint: a plain segmentor fills every plain network
            adapted = to_method(state_dict, self.roles)
            check_fit(adapted, self.state_dict(), 'checkpoint', self.roles, self.may_be_infinite)
            state_dict.clear()
            state_dict.update(adapted)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    here = staticmethod(on_this_machine)

    # ---- the verbs of a step -------------------------------------------------------------------

    def see(self, name: str, images: Tensor, *, grad: bool = False, mode: str | None = None,
            statistics: bool = True, **kwargs) -> View:
        """A network's view of images (``grad``: let gradients through): network.see; for the mode
        and statistics see models.running."""
        net = getattr(self, name)
        with phase(name), torch.set_grad_enabled(grad), running(net, mode, statistics):
            return network.see(net, images, **kwargs)

    def train_on(self, batch: Batch, *views: Tensor, name: str | None = None,
                 **kwargs) -> tuple[dict, list[View], Tensor | None]:
        """Supervised losses, and views, of one training forward; see network.train_on.

        Args:
            name: of the network, the first by default. Another one's losses bear its name.
        """
        main = next(iter(self.roles))
        losses, seen, embedding = network.train_on(
            getattr(self, name or main), batch, views, divisor=self.divisor,
            joint=self.cfg.joint_forward, auxiliary=self.cfg.auxiliary_loss, **kwargs)
        losses = scaled(losses, self.cfg.supervised_weight)
        if name not in (None, main):
            losses = {f'{name}.{key}': value for key, value in losses.items()}
        return losses, seen, embedding

    def strong(self, weak: Tensor, draws: ImageDraws | None = None) -> Strong:
        """A strong view of the unlabelled images: boxes are drawn, then colours."""
        return strong_view(weak, self.cfg, draws, self.strong_view, self.data_preprocessor)

    def draws(self, batch: Batch) -> ImageDraws | None:
        """This iteration's draws keyed by image, or None where torch's generators serve."""
        if self.cfg.sampling == 'batch':
            return None
        return ImageDraws(self.seed, self.iter, get_rank(), batch.num_labeled, len(batch.weak),
                          batch.images.device)

    def ramp(self) -> float:
        """Factor of the unsupervised weights now: 0 in the warm-up, then rising to 1."""
        done = self.iter - self.cfg.warmup_iters + 1
        share = done / max(self.cfg.ramp_iters, 1)
        return 0.0 if done <= 0 else ramp(share, self.cfg.ramp_shape) if share < 1 else 1.0

    progress = property(lambda self: self.iter / self.max_iters if self.max_iters else 0.0,
                        doc='Share of the training done, in [0, 1); 0 if nobody says its length.')

    @property
    def divisor(self) -> Callable[[Tensor], Tensor] | None:
        """How counts become divisors: None, or the ranks' mean (see ``global_average``)."""
        return mean_over_ranks if self.cfg.global_average and get_world_size() > 1 else None

    # ---- what engine and tools ask -------------------------------------------------------------

    def prepare_trial(self) -> SemiSegmentor:
        """Be ready for a step on noise, outside of training and its hooks; returns itself."""
        self.driven = True
        for memory in self.staged:
            memory.prepare_trial()
        return self.train()

    main = property(lambda self: getattr(self, next(iter(self.roles))), doc='The first network.')

    def named(self, *, trained: bool | None = None, plain: bool | None = None) -> dict:
        """``{name: module}`` of the networks of a kind (None: either)."""
        return {name: getattr(self, name) for name, role in self.roles.items()
                if trained in (None, not role.follows) and plain in (None, role.plain)}

    warmed = property(lambda self: tuple(self.named(trained=True, plain=True)),
                      doc='Names of the networks that steps of the warm-up train.')

    gathering = property(  # ``{name: module}``
        lambda self: self.named(trained=None if self.cfg.teacher_mode == 'train' else True),
        doc='The networks whose batch norm gathers statistics in a step.')

    labeler = property(lambda self: first_average(self.roles),
                       doc='The network that labels unlabelled images: audits, pictures ask it.')

    def weak_view(self, images: Tensor, encoder: bool = False) -> View:
        """What labels are made of: the labeler's view of weak images, in eval mode."""
        return self.see(self.labeler, images, mode='eval', encoder=encoder)

    @property
    def predictor(self) -> nn.Module:
        """The network that is evaluated.

        Raises:
            ValueError: ``semi_test_cfg.predict_on`` names none; lists those there are.
        """
        which, choices = self.semi_test_cfg['predict_on'], self.named(plain=True)
        if which not in choices:
            raise ValueError(f'semi_test_cfg.predict_on must be one of {", ".join(choices)}, got '
                             f'{which!r}')
        return choices[which]

    decode_head = property(lambda self: self.predictor.decode_head)
    align_corners = property(lambda self: self.main.align_corners)
    num_classes = property(lambda self: main_head(self.main).num_classes)
    ignore_index = property(lambda self: main_head(self.main).ignore_index)
    out_channels = property(lambda self: main_head(self.main).out_channels)
