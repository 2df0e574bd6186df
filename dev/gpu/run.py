"""Prove and measure everything on one GPU, in less than nine minutes.

    python dev/gpu/run.py --out gpu                  # goes on where an earlier start was cut
    python dev/gpu/run.py --out gpu --wheels wheels  # what is missing, from a folder of wheels
    python dev/gpu/run.py --out gpu --rehearse       # all of it, shrunken, on the CPU

Each part is a process with a limit of its own. What it finds goes to OUT/PART.jsonl row by row, so
that a cut leaves what is done; OUT/PART.done says that nothing is left; OUT/report.md has the
tables. Any torch that mmseg_esl runs on will do. Nothing is installed but the wheels of --wheels,
and those into a folder that goes away.
"""
from __future__ import annotations

import argparse
import importlib.util
import os
import signal
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / 'dev')]

from gpu.report import report, rows
from mmseg_esl.processes import ending_with_us

LIMITS = dict(tests=130, steps=160, settings=100, transformers=70, loading=50)  # seconds
# importable name -> what cannot be done without it
NEEDED = dict(torch='anything', mmengine='anything', mmcv='anything', mmseg='anything',
              pytest='tests', kornia='steps of methods that change colours', timm='transformers')


def parse_args(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--out', type=Path, required=True, help='folder for what is found')
    parser.add_argument('--parts', nargs='+', choices=list(LIMITS), default=list(LIMITS))
    parser.add_argument('--minutes', type=float, default=8.8, help='for all parts together')
    parser.add_argument('--wheels', type=Path, help='folder with wheels of what is missing')
    parser.add_argument('--rehearse', action='store_true',
                        help='shrunken, in one process, on the CPU')
    return parser.parse_args(argv)


# ------------------------------------------------------------------------------ what is there


def add_wheels(folder: Path, target: str) -> str:
    """Install the wheels whose distribution is not there, torch and its own never; '' or why not.

    Without their requirements: what they need has to lie beside them.
    """
    names = sorted({path.name.split('-')[0].replace('_', '-') for path in folder.glob('*.whl')})
    names = [name for name in names if name.split('-')[0] not in ('torch', 'triton', 'nvidia')
             and not installed(name)]
    if not names:
        return ''
    done = subprocess.run(
        [sys.executable, '-m', 'pip', 'install', '-q', '--no-index', '--no-deps', '--find-links',
         str(folder), '--target', target, *names], text=True, capture_output=True)
    return '' if not done.returncode else \
        f'{folder}: ' + (done.stderr.strip().splitlines() or ['pip failed'])[-1]


def installed(name: str) -> bool:
    if name == 'setuptools':  # the mm* packages want what recent ones have not
        return importlib.util.find_spec('pkg_resources') is not None
    try:
        return bool(metadata.version(name))
    except metadata.PackageNotFoundError:
        return False


def missing(rehearse: bool) -> tuple[str, bool]:
    """A line on what is not there ('' if all is), and whether that stops everything."""
    absent = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    said = [f'{name} (for {NEEDED[name]})' for name in absent]
    fatal = any(NEEDED[name] == 'anything' for name in absent)
    if not fatal and not rehearse:
        import torch
        if not torch.cuda.is_available():
            said.append('a GPU that torch sees (for anything but --rehearse)')
            fatal = True
    return 'missing: ' + ', '.join(said) if said else '', fatal


# ---------------------------------------------------------------------------------- the parts


def run_parts(names: list[str], out: Path, seconds: float, rehearse: bool) -> str:
    """Run parts in one process; '' or how it ended before they were done."""
    env = dict(os.environ, CUBLAS_WORKSPACE_CONFIG=':4096:8', PYTHONUNBUFFERED='1',
               **(dict(CUDA_VISIBLE_DEVICES='', OMP_NUM_THREADS='1') if rehearse else {}))
    command = [sys.executable, str(Path(__file__).with_name('parts.py')), str(out), *names]
    with open(out / f'{names[0]}.log', 'a', encoding='utf-8') as log:
        process = subprocess.Popen(ending_with_us(command + ['--rehearse'] * rehearse), env=env,
                                   stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # its loaders and ranks too
            process.wait()
            return f'cut after {seconds:.0f} s'
    return f'ended with {code}: see {log.name}' if code else ''


def main(argv=None) -> int:
    args, start = parse_args(argv), time.monotonic()
    args.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as site:
        if args.wheels:
            said = add_wheels(args.wheels, site)
            if said:
                print(said, flush=True)
            sys.path.insert(0, site)
            os.environ['PYTHONPATH'] = os.pathsep.join(
                filter(None, [site, os.environ.get('PYTHONPATH')]))
        said, fatal = missing(args.rehearse)
        if said:
            print(said, flush=True)
        if fatal:
            return 1
        left = [name for name in args.parts if not (args.out / f'{name}.done').exists()]
        for group in [left] if args.rehearse and left else [[name] for name in left]:
            allowed = min(sum(LIMITS[name] for name in group),
                          60 * args.minutes - (time.monotonic() - start))
            if allowed < 5:
                break
            begin = time.monotonic()
            fault = run_parts(group, args.out, allowed, args.rehearse)
            print(f'{", ".join(group)}: {fault or "done"} ({time.monotonic() - begin:.0f} s)',
                  flush=True)
            (args.out / 'report.md').write_text(report(args.out), encoding='utf-8')
    print(report(args.out))
    undone = [name for name in args.parts if not (args.out / f'{name}.done').exists()]
    failed = [key for name in args.parts for key, row in rows(args.out, name).items()
              if row.get('failed')]
    if undone or failed:
        print(f'left: {", ".join(undone) or "nothing"}; failed: {len(failed)}. The same command '
              'goes on')
    return 0


if __name__ == '__main__':
    sys.exit(main())
