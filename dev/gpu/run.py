"""Prove and measure everything on one GPU, in less than nine minutes.

    python dev/gpu/run.py --out gpu                  # goes on where an earlier start was cut
    python dev/gpu/run.py --out gpu --wheels wheels  # what is missing, from a folder of wheels
    python dev/gpu/run.py --out gpu --again          # what has failed or was skipped, too
    python dev/gpu/run.py --out gpu --rehearse       # all of it, shrunken, on the CPU

Each part is a process with a limit of its own. What it finds goes to OUT/PART.jsonl row by row, so
that a cut leaves what is done; the last row says that nothing is left. Rows of another card, of
another torch or of a rehearsal stay in the files and count for nothing. OUT/report.md has the
tables, OUT/log.txt all that was printed. Any torch that mmseg_esl runs on will do. Nothing is
installed but the wheels of --wheels, and those into a folder that goes away.
"""
from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / 'dev')]

from gpu.report import MACHINE, append, done, machine, report, rows, whose
from mmseg_esl.processes import ending_with_us

# seconds that are kept for a part; it may have those, too, that the others have left
LIMITS = dict(tests=150, steps=140, settings=45, transformers=70, loading=50, compilation=70)
# importable name -> what cannot be done without it
NEEDED = dict(torch='anything', mmengine='anything', mmcv='anything', mmseg='anything',
              cv2='anything', rich='anything', ftfy='anything', regex='anything', scipy='anything',
              pytest='tests', kornia='steps of methods that change colours', timm='transformers')
BEGIN = """
import json, cli_common, mmseg_esl.register, torch
from bench.measuring import machine
torch.ones(1, device='DEVICE')
print(json.dumps(machine('DEVICE')))
"""


def parse_args(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--out', type=Path, required=True, help='folder for what is found')
    parser.add_argument('--parts', nargs='+', choices=list(LIMITS), default=list(LIMITS))
    parser.add_argument('--minutes', type=float, default=8.8, help='for all parts together')
    parser.add_argument('--wheels', type=Path, help='folder with wheels of what is missing')
    parser.add_argument('--again', action='store_true',
                        help='try again what has failed or was skipped')
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


def missing() -> tuple[str, bool]:
    """A line on what is not there ('' if all is), and whether that stops everything."""
    absent = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    said = [f'{name} (for {NEEDED[name]})' for name in absent]
    fatal = any(NEEDED[name] == 'anything' for name in absent)
    return 'missing: ' + ', '.join(said) if said else '', fatal


def begin(rehearse: bool, code: str = BEGIN) -> tuple[dict, str]:
    """What every part begins with, asked once: (the machine, '') or ({}, why not)."""
    found = subprocess.run(
        [sys.executable, '-c', code.replace('DEVICE', 'cpu' if rehearse else 'cuda')], text=True,
        capture_output=True, env=dict(environment(rehearse), PYTHONPATH=os.pathsep.join(filter(
            None, [*(str(ROOT / name) for name in ('', 'dev', 'tools')),
                   os.environ.get('PYTHONPATH')]))))
    if not found.returncode:
        return dict(json.loads(found.stdout.splitlines()[-1]), rehearsed=rehearse), ''
    said = ends(found.stderr)
    name = re.search(r"ModuleNotFoundError: No module named '(\w+)[\w.]*'\Z", said)
    return {}, f'missing: {name[1]} (for anything)' if name else said


def environment(rehearse: bool) -> dict:
    return dict(os.environ, PYTHONUNBUFFERED='1', **(
        dict(CUDA_VISIBLE_DEVICES='', OMP_NUM_THREADS='1') if rehearse else {}))


def ends(text: str, lines: int = 12) -> str:
    return '\n'.join(text.strip().splitlines()[-lines:])


# ---------------------------------------------------------------------------------- the parts


def allowed(name: str, later: list[str], left: float) -> float:
    """Seconds for a part, of those that are left for it and for later ones."""
    return max(min(LIMITS[name], left), left - sum(LIMITS[other] for other in later))


def run_parts(names: list[str], out: Path, seconds: float, rehearse: bool) -> str:
    """Run parts in one process; '' or how it ended before they were done."""
    env = environment(rehearse)
    if 'tests' in names:
        env['CUBLAS_WORKSPACE_CONFIG'] = ':4096:8'
    command = [sys.executable, str(Path(__file__).with_name('parts.py')), str(out), *names]
    with open(out / 'log.txt', 'a+', encoding='utf-8') as log:
        begin = log.seek(0, os.SEEK_END)
        process = subprocess.Popen(ending_with_us(command + ['--rehearse'] * rehearse), env=env,
                                   stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # its loaders and ranks too
            process.wait()
            return f'cut after {seconds:.0f} s'
        if not code:
            return ''
        log.seek(begin)
        return f'ended with {code}: see {log.name}\n{ends(log.read())}\n'


def left_to_do(args, who: dict) -> list[str]:
    """Parts to be begun or gone on with on this machine, whose files say so from here on."""
    left = []
    for name in args.parts:
        before, found = machine(args.out, name), rows(args.out, name)
        ours, same = whose(before) == whose(who), before.get('commit') == who['commit']
        over = ours and done(args.out, name) and not (
            args.again and failed(args.out, [name], 'skipped'))
        if found and not (ours and same):
            print(f"{name}: {len(found)} rows are of {before.get('gpu') or 'a CPU'}, torch "
                  f"{before.get('torch')}, commit {before.get('commit')}; " + (
                      'they stay in the file, and it begins anew' if not ours else
                      'they count; another --out begins anew'), flush=True)
        if over:
            continue
        if not (ours and same):
            append(args.out, name, None)  # behind a line that was cut
            append(args.out, name, dict(key=MACHINE, **who))
        left.append(name)
    return left


def run_on(name: str, out: Path, later: list[str], end: float) -> None:
    """Run a part; begin it again where it ended by itself, but had found something."""
    while True:
        seconds, before = allowed(name, later, end - time.monotonic()), len(rows(out, name))
        if seconds < 5:
            return
        begin = time.monotonic()
        fault = run_parts([name], out, seconds, rehearse=False)
        print(f'{name}: {fault or "done"} ({time.monotonic() - begin:.0f} s)', flush=True)
        (out / 'report.md').write_text(report(out), encoding='utf-8')
        if not fault.startswith('ended') or len(rows(out, name)) == before:
            return


def main(argv=None) -> int:
    args, start = parse_args(argv), time.monotonic()
    end = start + 60 * args.minutes
    args.out = args.out.resolve()  # a test may go elsewhere
    args.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as site:
        if args.wheels:
            said = add_wheels(args.wheels, site)
            if said:
                print(said, flush=True)
            sys.path.insert(0, site)
            os.environ['PYTHONPATH'] = os.pathsep.join(
                filter(None, [site, os.environ.get('PYTHONPATH')]))
        said, fatal = missing()
        if said:
            print(said, flush=True)
        who = {}
        if not fatal:
            who, said = begin(args.rehearse)
            if said:
                print(said, flush=True)
        if not who:
            return 1
        left = left_to_do(args, who)
        if left and args.rehearse:
            said = run_parts(left, args.out, end - time.monotonic(), rehearse=True)
            print(f'{", ".join(left)}: {said or "done"}', flush=True)
        else:
            for i, name in enumerate(left):
                run_on(name, args.out, left[i + 1:], end)
    text = report(args.out)
    (args.out / 'report.md').write_text(text, encoding='utf-8')
    print(text)
    undone = [name for name in args.parts if not done(args.out, name)]
    number = len(failed(args.out, args.parts))
    if undone or number:
        print(f'left: {", ".join(undone) or "nothing"}; failed: {number}. The same command goes '
              'on, with --again also with what has failed or was skipped')
    return 0


def failed(out: Path, parts: list[str], *outcomes: str) -> list[str]:
    """Keys of the rows that have failed, or had one of these outcomes."""
    return [key for part in parts for key, row in rows(out, part).items()
            if row.get('failed') or row.get('outcome') in outcomes]


if __name__ == '__main__':
    sys.exit(main())
