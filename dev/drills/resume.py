"""Stop and resume runs at several points and compare them with the uninterrupted run, bit for bit.

``python dev/drills/resume.py``: workers {0, 2} x ranks {1, 2} x seed {fixed, drawn}, three stops
each, every leg in processes of its own; then a resumption at iteration 40,000 and one on another
number of ranks. Prints a line for each; exits with 1 if one differs. Dropout and augmentation are
on; the runs pass the clustering of the parts, validations and log lines.
"""
from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TESTS = ROOT / 'tests/integration'
sys.path[:0] = [str(ROOT), str(TESTS)]

from mmseg_esl import stack

stack.install()

import resume_leg as leg
import torch
from mmengine.config import Config
from project import write_project

from mmseg_esl.storage.config import hook_key

FAR = 40_000


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--work-dir', type=Path, help='default: a temporary folder')
    parser.add_argument('--iters', type=int, default=16)
    parser.add_argument('--stops', type=int, nargs='+', default=[2, 4, 7])
    parser.add_argument('--workers', type=int, nargs='+', default=[0, 2])
    parser.add_argument('--ranks', type=int, nargs='+', default=[1, 2])
    parser.add_argument('--seeds', nargs='+', default=['0', 'none'], help="'none': mmengine draws")
    parser.add_argument('--no-extras', action='store_true', help='the matrix alone')
    return parser.parse_args()


def launch(config, work, ranks: int, **arguments) -> None:
    """One start of the training in ``ranks`` fresh processes; ends the drill if it fails."""
    work.mkdir(parents=True)
    command = [sys.executable, str(TESTS / 'resume_leg.py'), str(config), str(work),
               json.dumps(arguments)]
    env = dict(os.environ, OMP_NUM_THREADS='1', PYTHONPATH=str(ROOT))
    if ranks > 1:
        with socket.socket() as free:
            free.bind(('127.0.0.1', 0))
            port = free.getsockname()[1]
        env.update(WORLD_SIZE=str(ranks), MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port))
    processes = []
    for rank in range(ranks):
        with open(work / f'output{rank}.txt', 'w') as output:
            extra = dict(RANK=str(rank), LOCAL_RANK=str(rank)) if ranks > 1 else {}
            processes.append(subprocess.Popen(command, env={**env, **extra}, stdout=output,
                                              stderr=subprocess.STDOUT))
    codes = [process.wait() for process in processes]
    if any(codes):
        sys.exit(f'{(work / "output0.txt").read_text()[-6000:]}\n{work}: exit codes {codes}')


def options(config, iters: int, **more) -> dict:
    parts = hook_key(Config.fromfile(str(config)), 'PartInitHook')
    return {'train_cfg.type': 'SemiTrainLoop', 'train_cfg.max_iters': iters,
            'train_cfg.val_interval': 4, 'param_scheduler.0.end': iters,
            'default_hooks.checkpoint.interval': 1, f'{parts}.begin': 3, **more}


def resume_all(config, folder, args, ranks, workers, seed) -> bool:
    """The uninterrupted run and those resumed from its checkpoints; whether all are identical."""
    common = dict(options=options(config, args.iters), workers=workers, seed=seed)
    whole, final, fine = folder / 'whole', f'iter_{args.iters}.pth', True
    launch(config, whole, ranks, **common)
    for stop in args.stops:
        work = folder / f'from{stop}'
        launch(config, work, ranks, resume_from=str(whole / f'iter_{stop}.pth'), **common)
        wrong = [f'rank {rank}, iteration {name}' for rank in range(ranks) for name in
                 leg.compare_traces(leg.trace(whole, rank), leg.trace(work, rank), stop)]
        wrong += leg.compare_checkpoints(whole / final, work / final)
        drawn = leg.draws(work)
        again = [draw for draw in drawn if draw[1] < 2 * ranks * stop]
        # the labelled images are read for the clustering, too
        clustered = 4 if stop <= 3 else 0
        opened = (work / 'opened.txt').read_text().splitlines()
        # a process that loads looks at each file once before it decodes it
        looks = len(set(opened)) * ranks * max(1, workers)
        stray = max(0, len(opened) - len(drawn) - clustered - looks)
        fine &= not (wrong or again or stray)
        print(f'ranks {ranks}, workers {workers}, seed {str(seed):4}, stop {stop:2}: '
              f'{args.iters - stop:2} iterations and final checkpoint: '
              f'{"identical" if not wrong else "DIFFERENT: " + "; ".join(wrong[:4])}; '
              f'skipped images read {len(again)}, opened outside of a draw {stray} '
              f'({len(opened)} opened, {len(drawn)} draws, {looks} first looks at most)',
              flush=True)
    return fine


def fast_forward(config, folder, whole, iters: int) -> bool:
    """Resume at iteration 40,000: a checkpoint that says so, since nobody waits for a real one."""
    checkpoint = torch.load(whole, weights_only=False)
    state = checkpoint['run_state']
    checkpoint['meta']['iter'] = state['iteration'] = FAR
    state['streams'].update(iteration=FAR, labeled=2 * FAR, unlabeled=2 * FAR)
    torch.save(checkpoint, folder / 'far.pth')
    fine = True
    for workers in (0, 2):
        work = folder / f'far{workers}'
        launch(config, work, 1, workers=workers, resume_from=str(folder / 'far.pth'),
               options=options(config, iters, **{'train_cfg.max_iters': FAR + 1,
                                         'train_cfg.val_interval': 10 ** 9}))
        waited = json.loads((work / 'trace_rank0.json').read_text())['waited']
        again = [draw for draw in leg.draws(work) if draw[1] < 2 * FAR]
        fine &= waited < 1 and not again
        print(f'iteration {FAR:,}, workers {workers}: begins {waited:.3f} s after the loop, with '
              f'its batch; skipped images read {len(again)}', flush=True)
    return fine


def other_ranks(config, folder, iters: int = 6, stop: int = 3) -> bool:
    """Two ranks of 1 + 1 images, resumed on one with 2 + 2: the streams go on without a gap."""
    small = {'train_dataloader.batch_size': 2, 'train_dataloader.batch_sampler.num_labeled': 1,
             'train_dataloader.batch_sampler.num_unlabeled': 1}
    launch(config, folder / 'two', 2, options=options(config, iters, **small), seed=0)
    launch(config, folder / 'one', 1, options=options(config, iters), seed=0,
           resume_from=str(folder / f'two/iter_{stop}.pth'))
    drawn = sorted(leg.draws(folder / 'one'))
    fine = drawn == [(s, p) for s in (0, 1) for p in range(2 * stop, 2 * iters)]
    print(f'2 ranks x (1 + 1) images resumed on 1 x (2 + 2): the streams '
          f'{"go on without a gap" if fine else "DO NOT FIT"} ({len(drawn)} draws)', flush=True)
    return fine


def main() -> None:
    args, begin = parse_args(), time.time()
    folder = args.work_dir or Path(tempfile.mkdtemp(prefix='drill_resume_'))
    config = write_project(folder / 'project')
    fine, whole = True, None
    for ranks in args.ranks:
        for workers in args.workers:
            for name in args.seeds:
                seed = None if name == 'none' else int(name)
                place = folder / f'ranks{ranks}_workers{workers}_seed{name}'
                fine &= resume_all(config, place, args, ranks, workers, seed)
                if ranks == 1:
                    whole = place / f'whole/iter_{max(args.stops)}.pth'
    if not args.no_extras:
        if whole:
            fine &= fast_forward(config, folder, whole, args.iters)
        if max(args.ranks) > 1:
            fine &= other_ranks(config, folder)
    print(f'{"all as it should be" if fine else "NOT ALL AS IT SHOULD BE"}, '
          f'{time.time() - begin:.0f} s, torch {torch.__version__}')
    sys.exit(not fine)


if __name__ == '__main__':
    main()
