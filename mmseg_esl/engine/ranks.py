"""Work that one rank does and all must hear the outcome of."""
from __future__ import annotations

from mmengine.dist import broadcast_object_list, is_main_process


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
    broadcast_object_list(shared, src=0)
    if error is not None:
        raise error
    result, said = shared[0]
    if said is not None:
        raise RuntimeError(f'rank 0 failed, and all ranks stop with it: {said}')
    return result
