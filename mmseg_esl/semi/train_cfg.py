"""Keys of ``semi_train_cfg`` that every method shares."""
from __future__ import annotations

from dataclasses import dataclass

from ..functional.ramps import RAMPS
from ..storage.config import Checked, said


def has_average(method, cfg) -> bool:
    return any(role.follows for role in method.roles_of(cfg).values())


@dataclass
class SemiTrainCfg(Checked):
    """What all methods share; a method adds its own keys. A default may differ there.

    Args:
        warmup_iters: supervised-only iterations before anything unlabelled counts (our option).
        ramp_iters: iterations over which the unsupervised weights then rise from 0 (our option).
        ramp_shape: 'linear' (our choice), 'cosine', 'sigmoid' or 'log', see functional.ramp.
        ema_momentum: of the networks that follow another one; 0.99 (our choice, as in U2PL; 0.996
            and 0.999 are common too).
        ema_schedule: 'rising': min(1 - 1/(t + 1), ema_momentum) at update t = 0, 1, ..., so that
            the first update copies (our choice, as in U2PL); 'constant'.
        ema_buffers: averages take the floating buffers too (batch-norm statistics; our choice).
        teacher_mode: 'eval' (our choice): averaged networks normalise by their own statistics;
            'train': by the batch's, as some releases do that average parameters alone.
        joint_forward: labelled and unlabelled images in one student forward, hence one set of
            batch-norm statistics (our choice); False, or a head with a loss of its own, takes two.
        supervised_weight: factor of the labelled images' losses; 1.
        auxiliary_loss: train mmseg's auxiliary heads on the labelled images. Off (our choice): they
            are then frozen, so that exports stay complete.
        cutmix: 'batch': boxes of ``cutmix_area`` for all images, or, with probability 1 -
            ``cutmix_prob``, for none (our choice for ESL); 'image': each image draws by itself, a
            box of 2 to 40 % of the area (UniMatch's code; ``cutmix_area`` is not read). Always, in
            every image, hence without ``cutmix_prob``: 'aspect': a box of ``cutmix_area``, its
            height's logarithm uniform (CutMix-Seg); 'three': three that toggle, of together 25 to
            50 % (CPS's code); 'beta': of Beta(4, 4), cut off at the border (PS-MT's code).
        cutmix_prob: see ``cutmix``; 0.5. cutmix_area: share of the image in the box; 0.5.
        cutmix_partner: what fills a box: the 'next' image of the batch (our choice: no image is its
            own), or with 'flip' the one at its place in the reversed batch (UniMatch V2: of an odd
            number of images the middle one is left as it is).
        global_average: means over pixels, and over a class's anchors, are those of all ranks'
            images together, so that a batch trains alike on one process and on many (our choice,
            and the literal reading: a paper's mini-batch is that of all GPUs). False: each rank's
            own mean, and one collective less per loss. See models/supervised.py for which
            supervised losses follow.
        sampling: 'batch' (our choice) draws from torch's generators. 'image' keys draws by seed,
            iteration and image (where a method's ``samplings`` have it), so that they do not depend
            on how the batch is spread over processes either: boxes as in ``cutmix='batch'``, mixed
            in pairs (where a rank has an even number of images), anchors per image and class.
    """
    warmup_iters: int = said(0, 'supervised warm-up, iterations')
    ramp_iters: int = said(0, 'ramp, iterations')
    ramp_shape: str = 'linear'
    ema_momentum: float = said(0.99, 'EMA momentum', has_average)
    ema_schedule: str = 'rising'
    ema_buffers: bool = True
    teacher_mode: str = 'eval'
    joint_forward: bool = True
    supervised_weight: float = 1.0
    auxiliary_loss: bool = False
    cutmix: str = 'batch'
    cutmix_prob: float = 0.5
    cutmix_area: float = 0.5
    cutmix_partner: str = 'next'
    global_average: bool = True
    sampling: str = 'batch'
    samplings = ('batch',)  # of which a method can do; no key, for it has no annotation

    def __post_init__(self):
        self.check_choice('ema_schedule', 'rising', 'constant')
        self.check_choice('teacher_mode', 'eval', 'train')
        self.check_choice('cutmix', 'batch', 'image', 'aspect', 'three', 'beta')
        self.check_choice('cutmix_partner', 'next', 'flip')
        self.check_choice('ramp_shape', *RAMPS)
        self.check_choice('sampling', *self.samplings)
        weights = (key for key in self.__dataclass_fields__ if key.endswith('_weight'))
        for key in ('warmup_iters', 'ramp_iters', *weights):
            if (getattr(self, key) or 0) < 0:
                raise ValueError(f'semi_train_cfg.{key} must not be negative')
        for key in ('ema_momentum', 'cutmix_prob', 'cutmix_area'):
            self.check_share(key)
