"""Whether a checkpoint holds all that a run goes on from; mmengine takes what there is."""
from __future__ import annotations

from ...storage.keys import to_method
from ..unwrap import unwrap

_SHOWN = 3
# what a checkpoint may lack: counts that nothing reads, and what was saved before it existed
_DISPENSABLE = ('num_batches_tracked', 'part_mask')


def missing_parts(runner, checkpoint: dict) -> list[str]:
    """What a checkpoint lacks of the run that is to go on from it, in words.

    Optimiser, schedulers, and tensors of the model by name and shape: networks, averages, memories.
    """
    out = []
    if not checkpoint.get('optimizer'):
        out.append('optimizer: not saved (a best checkpoint, weights alone, save_optimizer=False)')
    if runner.param_schedulers and not checkpoint.get('param_schedulers'):
        out.append('param_schedulers: not saved')
    model, given = unwrap(runner.model), checkpoint.get('state_dict') or {}
    if given and hasattr(model, 'roles'):
        given = to_method(given, model.roles)
    lost = [name for name, value in model.state_dict().items()
            if not name.endswith(_DISPENSABLE)
            and (name not in given or given[name].shape != value.shape)]
    if lost:
        more = f' and {len(lost) - _SHOWN} more' if len(lost) > _SHOWN else ''
        out.append(f'{len(lost)} tensors of the model: not saved, or of another shape: '
                   f'{", ".join(lost[:_SHOWN])}{more}')
    return out
