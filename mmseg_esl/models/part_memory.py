"""Prototypes and part queues: the state of the part grouping (paper Sec. 3.3)."""
from __future__ import annotations

import torch
from mmengine.dist import all_gather, all_reduce
from mmseg.registry import MODELS
from torch import Tensor

from ..functional import best_seeds, update_prototypes
from .gathered import gather_rows
from .staged import Staged


@MODELS.register_module()
class PartMemory(Staged):
    """K prototypes per class and a FIFO queue of part features per (class, part), as buffers.

    Every rank ends with the same bits: part features are gathered in the order of the images,
    prototype sums are reduced before the update.

    What a step changes is first staged, then committed when the optimiser has really stepped, or
    rolled back when it has not.

    A prototype of zeros is none yet: its part is not assigned. Each step in which the network that
    labels names a class that lacks some adds one, seeded from features (our choice; see
    functional.part_seeds), so that a class which the labelled set lacks has K parts of its own.

    Args:
        num_classes: C.
        feat_channels: D, width of the encoder's last stage.
        embed_channels: L, width of the projector's output.
        num_parts: K; 5 in the paper.
        queue_length: q, entries per queue; 256, our choice.
        momentum: the paper's theta of the prototype update, 0.99.

    Raises:
        ValueError: a size below 1, or momentum outside [0, 1].
    """

    labels = dict(num_parts='K, parts of a class', queue_length='q, entries of a queue',
                  momentum='θ, momentum of prototypes')  # on a page about a run
    published = dict(num_parts='K={}')  # in tables, where it is not the default

    def __init__(self, num_classes: int, feat_channels: int, embed_channels: int,
                 num_parts: int = 5, queue_length: int = 256, momentum: float = 0.99):
        super().__init__()
        if num_parts < 1 or queue_length < 1:
            raise ValueError(f'num_parts and queue_length must be at least 1, got {num_parts} and '
                             f'{queue_length}; to train without parts choose a variant that has '
                             'no contrast')
        if not 0 <= momentum <= 1:
            raise ValueError(f'momentum must be in [0, 1], got {momentum}')
        self.num_classes, self.num_parts = num_classes, num_parts
        self.num_queues, self.queue_length = num_classes * num_parts, queue_length
        self.momentum = momentum
        self.register_buffer('prototypes', torch.zeros(num_classes, num_parts, feat_channels))
        # Parts in use: all, unless PartInitHook chose a number for each class.
        self.register_buffer('part_mask', torch.ones(num_classes, num_parts, dtype=torch.bool))
        # One spare slot at the end swallows what is not to be kept (always zeros).
        self.register_buffer('queue',
                             torch.zeros(self.num_queues, queue_length + 1, embed_channels))
        self.register_buffer('pushed', torch.zeros(self.num_queues, dtype=torch.long))
        self.register_buffer('initialised', torch.zeros((), dtype=torch.bool))
        # Host copy of 'initialised', kept by PartInitHook; None: nobody looks after it.
        self.active: bool | None = None
        self._undo: list[tuple] = []
        self._pending: list[tuple] = []
        self._seeds: tuple[Tensor, Tensor] | None = None
        # Host's word on whether prototypes may be lacking: without it no step looks for seeds.
        self.lacking = False

    @property
    def usable(self) -> Tensor:
        """``(C, K)`` bool, parts in use whose prototype is set."""
        return self.part_mask & self.prototypes.any(dim=-1)

    @property
    def filled(self) -> Tensor:
        """``(C * K,)`` long, number of entries in each queue."""
        return self.pushed.clamp(max=self.queue_length)

    @torch.no_grad()
    def start(self, prototypes: Tensor, mask: Tensor | None = None) -> None:
        """Set the prototypes ``(C, K, D)`` and empty the queues.

        Args:
            mask: ``(C, K)`` bool, the parts in use (None: all).
        """
        self.prototypes.copy_(prototypes)
        self.part_mask.copy_(torch.ones_like(self.part_mask) if mask is None else mask)
        self.queue.zero_()
        self.pushed.zero_()
        self.initialised.fill_(True)
        self._note_lacking()
        self.drop()

    def _note_lacking(self) -> None:
        self.lacking = bool((self.part_mask & ~self.usable).any())

    def prepare_trial(self) -> None:
        self.start(torch.randn_like(self.prototypes))
        self.active = True

    @torch.no_grad()
    def stage(self, embed_sums: Tensor, embed_counts: Tensor, feat_sums: Tensor,
              feat_counts: Tensor, num_labeled: int = 0,
              seeds: tuple[Tensor, Tensor] | None = None) -> None:
        """Push the part features of this step and remember the prototypes' update.

        Args:
            embed_sums: ``(B, N, L)`` teacher embeddings summed over each part of each image.
            embed_counts: ``(B, N)`` pixels of each part; 0 = absent, pushes nothing.
            feat_sums: ``(B, N, D)`` encoder features, likewise; feat_counts ``(B, N)``.
            num_labeled: the first so many images are labelled. Those of all ranks are pushed
                first, then the others: the order of one process with the whole batch.
            seeds: of functional.part_seeds; the best of all ranks and micro-batches is planted.
        """
        means = embed_sums / embed_counts.clamp(min=1)[..., None]
        # a spoilt feature never enters a queue, not even until the step is taken back
        present = (embed_counts > 0) & means.isfinite().all(dim=-1)
        self._push(*gather_rows(present, num_labeled, means))
        sums = torch.cat([feat_sums.sum(dim=0), feat_counts.sum(dim=0)[:, None]], dim=1)
        all_reduce(sums)
        self._pending.append((sums[:, :-1], sums[:, -1]))
        if seeds is not None:
            found = list(zip(*(all_gather(x) for x in seeds)))
            found = [self._seeds, *found] if self._seeds else found
            self._seeds = best_seeds(*(torch.stack(x) for x in zip(*found)))

    def commit(self) -> None:
        """Make the staged steps final and update the prototypes (P <- theta P + (1-theta) P')."""
        for sums, counts in self._pending:
            self.prototypes.copy_(
                update_prototypes(self.prototypes, sums, counts, momentum=self.momentum))
        if self._seeds is not None:
            self._plant(*self._seeds)
        self.drop()

    def _plant(self, seeds: Tensor, scores: Tensor) -> None:
        """Each class's first part that lacks a prototype takes its seed, if there is one."""
        lacks = self.part_mask & ~self.usable
        first = lacks & (lacks.cumsum(dim=1) == 1) & (scores < torch.inf)[:, None]
        self.prototypes.copy_(torch.where(first[..., None], seeds[:, None].to(self.prototypes),
                                          self.prototypes))

    def rollback(self) -> None:
        """Take the staged pushes back, bit for bit."""
        for index, slots, rows, pushed in reversed(self._undo):
            self.queue.index_put_((index, slots), rows)
            self.pushed.copy_(pushed)
        self.drop()

    def _load_from_state_dict(self, state_dict, prefix, *args, **kwargs):
        if f'{prefix}prototypes' in state_dict:  # saved before there was a mask: all parts in use
            state_dict.setdefault(f'{prefix}part_mask', torch.ones_like(self.part_mask))
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
        self._note_lacking()

    def drop(self) -> None:
        """Forget what is staged."""
        self._undo, self._pending, self._seeds = [], [], None

    def _push(self, present: Tensor, places: Tensor | None, means: Tensor) -> None:
        """What gather_rows gives: which there are ``(B, N)``, and rows, ``(B, N, L)`` or packed."""
        order = self.pushed + present.cumsum(dim=0) - 1  # running number of each entry
        total = self.pushed + present.sum(dim=0)
        keep = present & (order >= total - self.queue_length)
        slots = torch.where(keep, order % self.queue_length, self.queue_length)
        index = torch.arange(self.num_queues, device=slots.device).expand_as(slots)
        if places is not None:
            keep, slots, index = (x.flatten()[places] for x in (keep, slots, index))
        self._undo.append((index, slots, self.queue[index, slots], self.pushed.clone()))
        rows = torch.where(keep[..., None], means, 0.0).to(self.queue.dtype)
        self.queue.index_put_((index, slots), rows)
        self.pushed.copy_(total)
