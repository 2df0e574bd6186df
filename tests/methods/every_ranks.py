"""Two ranks train each method and compare their tensors.

``torchrun every_ranks.py FOLDER [BACKEND CASE ...]``: with a backend, on the first GPU.
"""
from __future__ import annotations

import hashlib
import json
import sys
from datetime import timedelta
from pathlib import Path

import torch
from mmengine.dist import all_gather_object, get_rank

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))
import every
import tiny

from mmseg_esl import stack

STEPS = 2
WRAPPER = dict(model_wrapper_cfg=dict(type='MMDistributedDataParallel', broadcast_buffers=False,
                                      device_ids=None))


def train(case, folder: Path, data: Path) -> dict:
    runner = tiny.run(folder, data, case.hooks(), max_iters=STEPS, interval=STEPS,
                      model=case.model_cfg(), launcher='pytorch', cfg=WRAPPER)
    state = runner.model.module.state_dict()
    digests = {key: hashlib.sha256(value.cpu().numpy().tobytes()).hexdigest()
               for key, value in state.items()}
    ranks = all_gather_object(digests)
    images = all_gather_object(runner.message_hub.get_scalar('train/loss').data[0].tolist())
    return dict(tensors=len(digests), steps=int(state['ema_steps']),
                differing=[key for key in digests if ranks[0][key] != ranks[1][key]],
                saw_other_images=images[0] != images[1],
                skipped='train/skipped_steps' in runner.message_hub.log_scalars)


def main(folder: Path, backend: str = '', *names: str) -> None:
    torch.set_num_threads(1)
    if backend:
        torch.cuda.set_device(0)
        torch.distributed.init_process_group(backend, timeout=timedelta(seconds=120))
    else:
        stack.start_gloo('pytorch', timeout=120)
    data = folder / f'data{get_rank()}'
    tiny.write_data(data, labeled=8, unlabeled=8)
    found = {repr(case): train(case, folder / str(i), data)
             for i, case in enumerate(every.CASES) if not names or repr(case) in names}
    if get_rank() == 0:
        print('RESULT', json.dumps(found), flush=True)


if __name__ == '__main__':
    main(Path(sys.argv[1]), *sys.argv[2:])
