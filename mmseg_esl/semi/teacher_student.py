"""What every teacher-student method shares: two networks, one batch, mixing, checkpoints.

ESL itself stands in ``esl.py``; another method would be another subclass beside it.
"""
from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass

import torch
from mmengine.dist import all_reduce_params, get_rank, get_world_size
from mmengine.model import BaseModel, revert_sync_batchnorm
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.models.segmentors import EncoderDecoder
from mmseg.models.utils import resize
from mmseg.registry import MODELS
from torch import Tensor, nn

from ..functional import cutmix_mask, ema_momentum, ema_update, mix
from ..functional.phases import phase
from ..models.diagnostics import Diagnostics
from ..models.feature_tap import FeatureTap, find_module
from ..models.finite_watch import FiniteWatch
from ..models.image_draws import ImageDraws
from ..models.supervised import head_losses, mean_over_ranks, pixel_means
from .keys import check_fit, to_wrapper

SEVERAL_OUTPUTS = ('DDRHead', 'PIDHead')


@dataclass
class SemiTrainCfg:
    """Keys of ``semi_train_cfg`` that every method shares.

    Args:
        warmup_iters: supervised-only iterations before anything unlabelled counts (our option).
        ramp_iters: iterations over which the unsupervised weights then rise from 0 (our option).
        joint_forward: labelled and mixed images in one student forward, hence one set of
            batch-norm statistics (our choice); False, or a head with a loss of its own, takes two.
        auxiliary_loss: train mmseg's auxiliary heads on the labelled images. Off: the paper's
            Eq. 11 has no such term; the heads are then frozen, so that exports stay complete.
        cutmix_prob: chance per batch; 0.5 (our choice).
        cutmix_area: share of the image in the box; 0.5 (our choice).
        global_average: means over pixels, and over a class's anchors, are those of all ranks'
            images together, so that a batch trains alike on one process and on many (our choice,
            and the literal reading: the paper's mini-batch is that of all GPUs). False: each rank's
            own mean, and one collective less per loss. See models/supervised.py for which
            supervised losses follow.
        sampling: 'batch' (our choice) draws from torch's generators. 'image' keys CutMix, anchors
            and their positives by seed, iteration and image, so that draws do not depend on how
            the batch is spread over processes either: quotas of anchors are then per image and
            class, and images are mixed in pairs (where a rank has an even number of them).
    """
    warmup_iters: int = 0
    ramp_iters: int = 0
    joint_forward: bool = True
    auxiliary_loss: bool = False
    cutmix_prob: float = 0.5
    cutmix_area: float = 0.5
    global_average: bool = True
    sampling: str = 'batch'

    def __post_init__(self):
        if self.sampling not in ('batch', 'image'):
            raise ValueError("semi_train_cfg.sampling must be 'batch' or 'image', got "
                             f'{self.sampling!r}')
        for key in ('warmup_iters', 'ramp_iters'):
            if getattr(self, key) < 0:
                raise ValueError(f'semi_train_cfg.{key} must not be negative')
        for key in ('cutmix_prob', 'cutmix_area'):
            self.check_share(key)

    def check_share(self, key: str) -> None:
        if not 0 <= getattr(self, key) <= 1:
            raise ValueError(f'semi_train_cfg.{key} must be in [0, 1], got {getattr(self, key)}')


@dataclass
class View:
    """What one network makes of a batch of B images of H x W.

    Args:
        logits: ``(B, C, H, W)``.
        embedding: ``(B, L, h, w)`` projector output, or None if there is no projector.
        encoder: ``(B, D, h', w')`` last stage of the backbone, or None if not asked for.
    """
    logits: Tensor
    embedding: Tensor | None = None
    encoder: Tensor | None = None


class TeacherStudentSegmentor(BaseModel):
    """A student segmentor, its EMA teacher, and what passes between them.

    ``student.*`` in the state dict is exactly the plain segmentor's state, so a plain mmseg
    checkpoint initialises both networks and either can be exported to one.

    Args:
        segmentor: config of any mmseg EncoderDecoder (softmax over C >= 2 channels).
        projector: config of the embedding network on the decoder's features, or None.
        embedding: dotted path, within the segmentor, of the module whose input are those features.
            The classifier's input, the default, lies behind the head's dropout (our choice: it is
            where all of mmseg's heads agree); the teacher, in eval mode, has none.
        strong_view: config of a colour augmentation of the unlabelled images, or None (paper).
        semi_train_cfg: see the method's own config class.
        semi_test_cfg: ``predict_on`` = 'teacher' (default, our choice) or 'student'.
        data_preprocessor: for a segmentor config without one (mmengine's Runner passes it).
        train_cfg, test_cfg, pretrained: ignored; mmseg's inference API sets them on any model.
    """
    cfg_class = SemiTrainCfg

    def __init__(self, segmentor: dict, projector: dict | None = None,
                 embedding: str = 'decode_head.conv_seg', strong_view: dict | None = None,
                 semi_train_cfg: dict | None = None, semi_test_cfg: dict | None = None,
                 data_preprocessor: dict | None = None, train_cfg=None, test_cfg=None,
                 pretrained=None, init_cfg=None):
        super().__init__(init_cfg=init_cfg)
        self.semi_cfg = self._parse_cfg(semi_train_cfg or {})
        self.semi_test_cfg = {'predict_on': 'teacher', **(semi_test_cfg or {})}
        self.iter = 0  # set by TeacherEMAHook, as is the next
        self.driven = False
        self.seed = 0  # of draws keyed by image; set by TeacherEMAHook
        self.watch = FiniteWatch()  # used by FiniteGuardHook, as is the next
        self.step_refused = False
        self.diagnostics = Diagnostics()
        self.student = self._build_student({'data_preprocessor': data_preprocessor, **segmentor})
        self.data_preprocessor = self.student.data_preprocessor
        self.embedding_path = embedding
        self.projector = None
        if projector is not None:
            tapped = find_module(self.student, self._head_path(embedding))
            width = projector.get('in_channels', getattr(tapped, 'in_channels', None))
            if width is None:
                raise ValueError(f"'{embedding}' has no in_channels: set projector.in_channels")
            norm = getattr(self._main_head(self.student), 'norm_cfg', None)
            self.projector = MODELS.build(
                dict(projector, in_channels=width, norm_cfg=projector.get('norm_cfg', norm)))
        if not torch.cuda.is_available():  # SyncBN runs on accelerators only
            self.student = revert_sync_batchnorm(self.student)
            self.projector = self.projector and revert_sync_batchnorm(self.projector)
        self.teacher = self._frozen_copy(self.student)
        self.teacher_projector = self.projector and self._frozen_copy(self.projector)
        self.strong_view = strong_view and MODELS.build(strong_view)
        self.register_buffer('ema_steps', torch.zeros((), dtype=torch.long))
        self.predictor  # noqa: B018  (raises on a wrong predict_on)

    # ---- construction -------------------------------------------------------------------------

    def _parse_cfg(self, cfg: dict):
        try:
            return self.cfg_class(**cfg)
        except TypeError as error:
            known = ', '.join(self.cfg_class.__dataclass_fields__)
            raise ValueError(f'semi_train_cfg: {error}; known keys: {known}') from error

    def _build_student(self, cfg: dict) -> nn.Module:
        student = MODELS.build(cfg)
        head = self._main_head(student)
        if head is None:
            raise ValueError(f'{type(student).__name__} has no decode_head: only segmentors '
                             'like EncoderDecoder can be wrapped')
        if head.out_channels != head.num_classes or head.num_classes < 2:
            raise ValueError(
                f'decode_head has num_classes={head.num_classes} and out_channels='
                f'{head.out_channels}: soft labels need one softmax channel per class. Set '
                'out_channels to num_classes (2 for a binary problem) and use_sigmoid=False.')
        if type(head).__name__ in SEVERAL_OUTPUTS:
            raise ValueError(f'{type(head).__name__} gives several outputs in training, none of '
                             'them known to be the prediction: use another decode_head')
        if getattr(student, 'with_auxiliary_head', False) and not self.semi_cfg.auxiliary_loss:
            student.auxiliary_head.requires_grad_(False)
        return student

    @staticmethod
    def _frozen_copy(module: nn.Module) -> nn.Module:
        return deepcopy(module).requires_grad_(False).eval()

    @staticmethod
    def _main_head(segmentor: nn.Module):
        head = getattr(segmentor, 'decode_head', None)
        return head[-1] if isinstance(head, nn.ModuleList) else head

    def _head_path(self, path: str) -> str:
        """A cascade's last head stands for 'decode_head'."""
        if isinstance(self.student.decode_head, nn.ModuleList) and path.startswith('decode_head.'):
            return path.replace('decode_head.', 'decode_head.-1.', 1)
        return path

    def init_weights(self) -> None:
        """Initialise (or load pretrained weights into) the student, then copy it to the teacher."""
        self.student.init_weights()
        if self.projector is not None:
            self.projector.init_weights()
        for teacher, student in self.ema_pairs():
            ema_update(teacher, student, 0.0)
        self._is_init = True

    # ---- the teacher --------------------------------------------------------------------------

    def ema_pairs(self) -> list[tuple[nn.Module, nn.Module]]:
        """(teacher, student) modules that the EMA keeps together."""
        pairs = [(self.teacher, self.student)]
        if self.projector is not None:
            pairs.append((self.teacher_projector, self.projector))
        return pairs

    @phase('EMA')
    def after_optimizer_step(self, step: int, momentum: float) -> float:
        """Let the teacher follow; called once per real optimiser step by TeacherEMAHook.

        Args:
            step: number of updates so far. momentum: its upper bound.

        Returns:
            the momentum used.
        """
        used = ema_momentum(step, momentum)
        for teacher, student in self.ema_pairs():
            # a plain batch norm (CPU, norm_cfg BN) sees one rank's images; the teachers must agree
            all_reduce_params([b for b in student.buffers() if b.is_floating_point()], op='mean')
            ema_update(teacher, student, used)
        self.ema_steps.add_(1)
        return used

    def after_skipped_step(self) -> None:
        """The optimiser refused the step (overflow under AMP, say): leave no trace of it."""

    def train(self, mode: bool = True):
        """As usual, but the teacher stays in eval mode: its batch norm must not see batches."""
        super().train(mode)
        self.teacher.eval()
        if self.teacher_projector is not None:
            self.teacher_projector.eval()
        return self

    # ---- forwards -----------------------------------------------------------------------------

    def forward(self, inputs: Tensor, data_samples=None, mode: str = 'tensor'):
        """mmengine's interface: 'loss' trains; 'predict' and 'tensor' ask the chosen network."""
        if mode == 'loss':
            return self.loss(inputs, data_samples)
        return self.predictor(inputs, data_samples, mode=mode)

    def loss(self, inputs: Tensor, data_samples) -> dict[str, Tensor]:
        raise NotImplementedError

    def parse_losses(self, losses: dict) -> tuple[Tensor, dict]:
        """As mmengine's; the terms are watched, see FiniteGuardHook."""
        loss, terms = super().parse_losses(losses)
        self.watch.terms('loss term', {k: v for k, v in terms.items() if 'loss' in k})
        return loss, terms

    @phase('teacher')
    @torch.no_grad()
    def teacher_view(self, inputs: Tensor, encoder: bool, num_logits: int | None = None) -> View:
        """Teacher's view of weakly augmented images, without gradient.

        Returns:
            a view whose logits are of the last ``num_logits`` images only (None: of all), and whose
            features are of all of them.
        """
        return self._whole_view(self.teacher, self.teacher_projector, inputs, encoder,
                                num_logits)

    @phase('student')
    def student_views(self, labeled: Tensor, mixed: Tensor, samples) -> tuple[dict, View]:
        """Student on the labelled and the strong unlabelled images.

        Args:
            labeled: ``(B_l, 3, H, W)``; mixed ``(B_u, 3, H, W)``, B_u may be 0.
            samples: data samples of the labelled images.

        Returns:
            supervised losses; and a view whose logits are of the mixed images only ``(B_u, C, H,
            W)`` and whose embedding is of both, labelled first.
        """
        views = self._joint_views if self._joint else self._separate_views
        with pixel_means(self.student, self.divisor):
            return views(labeled, mixed, samples)

    def _joint_views(self, labeled, mixed, samples):
        student, num = self.student, len(labeled)
        tap = self._tap(student)
        with tap.listen():
            feats = student.extract_feat(torch.cat([labeled, mixed]))
            logits = student.decode_head(feats)
        with phase('supervised loss'):
            losses = _prefixed('decode', head_losses(student.decode_head, logits[:num], samples))
        if self.semi_cfg.auxiliary_loss and student.with_auxiliary_head:
            losses.update(self._auxiliary_losses([f[:num] for f in feats], samples))
        upsampled = self._upsample(logits[num:], labeled) if len(mixed) else logits[num:]
        return losses, View(upsampled, self._project(self.projector, tap))

    def _auxiliary_losses(self, feats: list[Tensor], samples) -> dict:
        heads, losses = self.student.auxiliary_head, {}
        several = isinstance(heads, nn.ModuleList)
        for idx, head in enumerate(heads if several else [heads]):
            found = (head_losses(head, head(feats), samples) if _has_stock(head, 'loss')
                     else head.loss(feats, samples, self.student.train_cfg))
            losses.update(_prefixed(f'aux_{idx}' if several else 'aux', found))
        return losses

    def _upsample(self, logits: Tensor, like: Tensor) -> Tensor:
        return resize(logits, size=like.shape[-2:], mode='bilinear',
                      align_corners=self.align_corners)

    def _separate_views(self, labeled, mixed, samples):
        tap = self._tap(self.student)
        with tap.listen():
            losses = self.student.loss(labeled, samples)
        if not self.semi_cfg.auxiliary_loss:
            losses = {k: v for k, v in losses.items() if not k.startswith('aux')}
        embedding = self._project(self.projector, tap)
        if not len(mixed):
            return losses, View(labeled.new_zeros(0), embedding)
        view = self._whole_view(self.student, self.projector, mixed, encoder=False)
        if embedding is not None:
            view.embedding = torch.cat([embedding, view.embedding])
        return losses, view

    @property
    def _joint(self) -> bool:
        # EncHead, say, returns more than its logits
        stock = _has_stock(self.student.decode_head, 'loss', 'loss_by_feat')
        whole = type(self.student).loss is EncoderDecoder.loss
        return self.semi_cfg.joint_forward and stock and whole

    def _whole_view(self, segmentor, projector, inputs: Tensor, encoder: bool,
                    num_logits: int | None = None) -> View:
        first = 0 if num_logits is None else len(inputs) - num_logits
        embedding_tap = self._tap(segmentor)
        encoder_tap = FeatureTap(segmentor.backbone, 'backbone', output=True)
        with embedding_tap.listen(), encoder_tap.listen():
            if (type(segmentor).encode_decode is EncoderDecoder.encode_decode
                    and _has_stock(segmentor.decode_head, 'predict', 'predict_by_feat')):
                # the same as below, but what nobody asks for is not brought to full size
                logits = segmentor.decode_head(segmentor.extract_feat(inputs))[first:]
                logits = self._upsample(logits, inputs)
            else:
                logits = segmentor.encode_decode(inputs, _metas(inputs))[first:]
        return View(logits, self._project(projector, embedding_tap),
                    encoder_tap.take() if encoder else None)

    def _tap(self, segmentor) -> FeatureTap:
        if self.projector is None:  # nothing will be taken: any module will do
            return FeatureTap(segmentor, 'segmentor')
        path = self._head_path(self.embedding_path)
        return FeatureTap(find_module(segmentor, path), path)

    @staticmethod
    def _project(projector, tap: FeatureTap):
        return None if projector is None else projector(tap.take())

    def probe_encoder(self, size: int = 128) -> int:
        """Channels of the backbone's last stage, by running it once on an empty image."""
        image = torch.zeros(1, 3, size, size)
        with torch.no_grad():
            view = self._whole_view(self.teacher, self.teacher_projector, image, encoder=True)
        return view.encoder.size(1)

    # ---- shared steps -------------------------------------------------------------------------

    def split(self, data_samples) -> int:
        """Number of labelled images, which come first in the batch.

        Raises:
            ValueError: the samples do not come from a SemiDataset, or are out of order.
        """
        flags = [s.metainfo.get('labeled') for s in data_samples]
        if None in flags:
            raise ValueError('a sample does not say whether it is labelled: train_dataloader.'
                             'dataset must be a SemiDataset')
        num = sum(flags)
        if not all(flags[:num]) or num == 0:
            raise ValueError('a batch must hold labelled images first, at least one: use '
                             "batch_sampler=dict(type='SemiBatchSampler', ...)")
        return num

    def check_driven(self) -> None:
        """Raise RuntimeError if no TeacherEMAHook moves the teacher and counts iterations."""
        if not self.driven:
            raise RuntimeError("nobody moves the teacher: add dict(type='TeacherEMAHook') to "
                               'custom_hooks (a list given in a leaf replaces the inherited one)')

    def ramp(self) -> float:
        """Factor of the unsupervised weights now: 0 in the warm-up, then rising to 1."""
        done = self.iter - self.semi_cfg.warmup_iters
        if done < 0:
            return 0.0
        return min(1.0, (done + 1) / self.semi_cfg.ramp_iters) if self.semi_cfg.ramp_iters else 1.0

    @property
    def divisor(self):
        """How counts become divisors: None, or the ranks' mean (see ``global_average``)."""
        return mean_over_ranks if self.semi_cfg.global_average and get_world_size() > 1 else None

    def image_draws(self, num_labeled: int, num_unlabeled: int, device) -> ImageDraws | None:
        """This iteration's draws keyed by image, or None where torch's generators serve."""
        if self.semi_cfg.sampling == 'batch':
            return None
        return ImageDraws(self.seed, self.iter, get_rank(), num_labeled, num_unlabeled, device)

    def draw_mix(self, inputs: Tensor) -> Tensor:
        """``(B, H, W)`` bool CutMix boxes of this batch; empty with probability 1 - cutmix_prob."""
        return cutmix_mask(len(inputs), tuple(inputs.shape[-2:]), area=self.semi_cfg.cutmix_area,
                           prob=self.semi_cfg.cutmix_prob, device=inputs.device)

    @phase('strong view')
    def strengthen(self, weak: Tensor, mask: Tensor) -> Tensor:
        """Strong view ``(B, 3, H, W)`` of normalised images: colours (if any), then CutMix."""
        if self.strong_view is not None:
            pre = self.data_preprocessor
            mean, std = (pre.mean, pre.std) if pre._enable_normalize else (0.0, 1.0)
            weak = (self.strong_view((weak * std + mean) / 255) * 255 - mean) / std
        return self.mix(weak, mask)

    def mix(self, x: Tensor, mask: Tensor) -> Tensor:
        """CutMix of whatever belongs to the unlabelled images, see functional.mix."""
        pairs = self.semi_cfg.sampling == 'image' and len(x) % 2 == 0
        return mix(x, mask, group=2 if pairs else None)

    # ---- checkpoints and mmseg's interfaces ---------------------------------------------------

    def _load_from_state_dict(self, state_dict, prefix, *args, **kwargs):
        if not prefix:  # a whole checkpoint: plain segmentors fill both networks
            adapted = to_wrapper(state_dict)
            check_fit(adapted, self.state_dict(), 'checkpoint')
            state_dict.clear()
            state_dict.update(adapted)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    @property
    def predictor(self) -> nn.Module:
        """The network that is evaluated: teacher, or student if so configured."""
        which = self.semi_test_cfg['predict_on']
        if which not in ('teacher', 'student'):
            raise ValueError("semi_test_cfg.predict_on must be 'teacher' or 'student', got "
                             f'{which!r}')
        return getattr(self, which)

    @property
    def num_classes(self) -> int:
        return self._main_head(self.student).num_classes

    @property
    def ignore_index(self) -> int:
        return self._main_head(self.student).ignore_index

    @property
    def out_channels(self) -> int:
        return self._main_head(self.student).out_channels

    @property
    def decode_head(self):
        return self.predictor.decode_head

    @property
    def align_corners(self) -> bool:
        return self.student.align_corners


def connected_zero(*modules: nn.Module | None) -> Tensor | float:
    """A zero with a path to every parameter, so that DDP sees each one used in every step."""
    return sum((p.sum() * 0.0 for m in modules if m is not None for p in m.parameters()
                if p.requires_grad), 0.0)


def _has_stock(head: nn.Module, *methods: str) -> bool:
    """Whether a head's methods are BaseDecodeHead's own."""
    return all(getattr(type(head), m, None) is getattr(BaseDecodeHead, m) for m in methods)


def _metas(inputs: Tensor) -> list[dict]:
    """Of images as they are: a sample's img_shape is the unpadded size, which mmseg resizes to."""
    size = tuple(inputs.shape[-2:])
    return [dict(ori_shape=size, img_shape=size, pad_shape=size)] * len(inputs)


def _prefixed(prefix: str, losses: dict) -> dict:
    return {f'{prefix}.{key}': value for key, value in losses.items()}

