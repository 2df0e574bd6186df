"""One iteration on each of two ranks, with and without ChannelsLastHook; prints the difference.

``python -m torch.distributed.run --standalone --nproc_per_node 2 THIS FOLDER``
"""
import sys
from pathlib import Path

import torch
from mmengine.dist import get_rank

sys.path.insert(0, str(Path(__file__).parents[1]))
import tiny

from mmseg_esl import stack

WRAPPER = dict(type='MMDistributedDataParallel', broadcast_buffers=False, device_ids=None)


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    stack.start_gloo('pytorch', timeout=120)
    data, states = folder / f'data{get_rank()}', []
    tiny.write_data(data)
    for name, hooks in (('without', []), ('with', [dict(type='ChannelsLastHook')])):
        torch.manual_seed(0)
        runner = tiny.run(folder / name, data, [tiny.EMA, tiny.PARTS, *hooks], max_iters=1,
                          launcher='pytorch', cfg=dict(model_wrapper_cfg=WRAPPER))
        states.append(runner.model.module.student.state_dict())
    wanted, found = states
    worst = max((found[key] - wanted[key]).abs().max().item() for key in wanted)
    print(f'rank {get_rank()}: {worst:.1e}', flush=True)


if __name__ == '__main__':
    main(Path(sys.argv[1]))
