"""Do ranks agree, and do they make what one process makes? Prints figures; exits with 1 if not.

    python dev/drills/ranks.py --ranks 2 4 --steps 50

On each number of CPU processes (gloo), with a tiny network:

* agree: training by the real Runner, plain batch norm, each rank its own images. After each step
  all tensors of teacher (buffers too), student, prototypes and queues are compared bit for bit.
* one step: batch norm frozen, semi_train_cfg global_average=True and sampling='image', against one
  process with the whole batch: losses, gradients, parts, memory. 'own means' is the same with
  global_average=False, to show that the comparison can tell.
* empty: rank 1 has no labelled pixel, no anchor, or nothing but padding, and nobody waits for ever.
"""
from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / 'tests'), str(ROOT / 'tests/integration')]

import forked
import rank_jobs
import torch

LIMITS = {'float32': 1e-6, 'float64': 1e-14, 'float64 ohem': 1e-14}
PARTS_LIMIT = 1e-5


def launch(job: str, ranks: int, folder: Path, count: int, timeout: float) -> dict:
    """Run a job on all ranks, with its number of steps or image size; returns rank 0's result.

    Raises:
        TimeoutError: somebody waits for somebody.
        RuntimeError: a rank failed; holds its output.
    """
    return forked.result(forked.on_ranks(rank_jobs.main, job, folder, count, ranks=ranks,
                                         timeout=timeout))


def agree(ranks: int, steps: int, timeout: float) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        return launch('agree', ranks, Path(folder), steps, timeout)


def empty(ranks: int, timeout: float, steps: int = 2) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        return launch('empty', ranks, Path(folder), steps, timeout)


def one_step(ranks: int, size: int, timeout: float) -> dict:
    """Relative differences to one process, by setting."""
    with tempfile.TemporaryDirectory() as folder:
        launch('own_step', ranks, Path(folder), size, timeout)
        return {name: _compare(name, size, [torch.load(Path(folder) / f'{name} {rank}.pth')
                                            for rank in range(ranks)])
                for name in rank_jobs.SETTINGS}


def _compare(name: str, size: int, results: list) -> dict:
    ranks, (dtype, *setting) = len(results), rank_jobs.SETTINGS[name]
    torch.set_num_threads(1)  # as the ranks: resizing rounds otherwise with more of them
    want = _in_one_process(ranks, dtype, setting, size)
    losses = {key: _relative(torch.stack([r['terms'][key] for r in results]).mean(), value)
              for key, value in want['terms'].items()}
    own = _flat(want)
    images = rank_jobs.IMAGES
    parts = torch.cat([r['parts'][:images] for r in results] + [r['parts'][images:]
                                                                for r in results])
    memory = {key: _relative(results[0]['memory'][key].to(dtype), value.to(dtype))
              for key, value in want['memory'].items()}
    rounding = 0.0
    if dtype == torch.float32:  # what float32 itself is off by, which grows with the pixels
        rounding = _relative(own, _flat(_in_one_process(ranks, torch.float64, setting, size)))
    return dict(losses=max(losses.values()), gradient=_relative(_flat(results[0]), own),
                rounding=rounding,
                parts=float((parts != want['parts']).double().mean()), pixels=parts.numel(),
                queue=memory['queue'], prototypes=memory['prototypes'], pushed=memory['pushed'],
                loss_ctr=float(want['terms']['loss_ctr']))


def _in_one_process(ranks: int, dtype, setting, size: int) -> dict:
    model = rank_jobs.prepared(dtype, *setting)
    inputs, samples = rank_jobs.whole_batch(ranks, torch.float64, size)
    return rank_jobs.one_step(model, model, inputs.to(dtype), samples)


def _flat(result: dict) -> torch.Tensor:
    return torch.cat([grad.flatten() for grad in result['grads'].values()])


def _relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a.double() - b.double()).norm() / b.double().norm().clamp(min=1e-300))


def exact(name: str, figures: dict) -> bool:
    """Whether one step is within the limits of its precision, or of twice its own rounding."""
    limit = LIMITS[name]
    return (figures['losses'] <= limit
            and figures['gradient'] <= max(limit, 2 * figures['rounding'])
            and figures['parts'] <= PARTS_LIMIT and figures['queue'] <= limit
            and figures['prototypes'] <= limit and figures['pushed'] == 0)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--ranks', nargs='+', type=int, default=[2, 4])
    parser.add_argument('--steps', type=int, default=50)
    parser.add_argument('--size', type=int, default=512, help='of the images of the one step')
    parser.add_argument('--timeout', type=float, default=3600, help='seconds for each job')
    args = parser.parse_args()
    good = True
    for ranks in args.ranks:
        found = agree(ranks, args.steps, args.timeout)
        good &= found['differing'] == 0 and found['steps'] == found['teachers'] == args.steps
        print(f'{ranks} ranks, {found["steps"]} steps, {found["tensors"]} tensors: '
              f'{found["differing"]} differ {found["first"] or ""} ({found["teachers"]} different '
              f'teachers, {found["pushed"]} features pushed)', flush=True)
        for name, figures in one_step(ranks, args.size, args.timeout).items():
            good &= name not in LIMITS or exact(name, figures)
            print(f'{ranks} ranks against one process, {name}: '
                  + ', '.join(f'{key} {value:.2g}' for key, value in figures.items()), flush=True)
        found = empty(ranks, args.timeout)
        good &= all(found.values())
        print(f'{ranks} ranks, rank 1 empty: ' + ', '.join(
            f'{name} {"finite" if ok else "NOT FINITE"}' for name, ok in found.items()), flush=True)
    print('all within limits' if good else 'LIMITS EXCEEDED')
    return 0 if good else 1


if __name__ == '__main__':
    sys.exit(main())
