"""Work whose outcome all ranks must hear of, or the others wait for ever."""
from __future__ import annotations

from mmengine.dist import all_gather_object, broadcast_object_list, is_main_process


def on_main(function, *args, **kwargs):
    """Call a function on rank 0; every rank returns its result, or raises if it raised.

    All ranks must call it. Without it, an error on rank 0 leaves the others waiting for it.

    Raises:
        Exception: on rank 0 whatever the function raises.
        RuntimeError: on the other ranks, with what rank 0 said.
    """
    result, error = None, None
    if is_main_process():
        try:
            result = function(*args, **kwargs)
        except Exception as caught:  # shared with all ranks and raised again below
            error = caught
    shared = [(result, None if error is None else f'{type(error).__name__}: {error}')]
    broadcast_object_list(shared)  # of rank 0
    if error is not None:
        raise error
    result, said = shared[0]
    if said is not None:
        raise RuntimeError(f'rank 0 failed, and all ranks stop with it: {said}')
    return result


def raise_together(error: Exception | None, what: str) -> None:
    """Let all ranks stop if one of them has caught an error; on all ranks.

    Args:
        error: what this rank has caught, or None.
        what: what it was doing, for the message of the others.

    Raises:
        Exception: this rank's own.
        RuntimeError: another rank's.
    """
    if any(all_gather_object(error is not None)):
        raise error or RuntimeError(f'another rank failed while {what}; its log says why')
