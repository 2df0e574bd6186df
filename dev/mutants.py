"""Put faults into the code, one at a time, and see whether the tests beside it notice.

``python dev/mutants.py [--sample N --seed S] [--only PART_OF_A_PATH] [--out FILE]``

Each fault is one small change of an expression (see ``KINDS``) in ``functional/``, ``methods/``,
``semi/`` or ``engine/``. It is put into a copy of the project, never into the files here, and the
tests that stand beside the file run on it. What was found goes to FILE, a line a fault; faults that
have a line for the same source are not tried again, so a run that was stopped goes on. Faults that
no test noticed are listed at the end: each wants a test, or makes no difference.

Torch and mmengine are imported once, then each fault has a forked process of its own. Needs
Python 3.9.
"""
from __future__ import annotations

import argparse
import ast
import contextlib
import copy
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ('functional', 'methods', 'semi', 'engine')
LIMIT = 300  # seconds; a fault that makes a test hang is noticed, too
# Tests of a file, where their names do not say it: else tests/ROOM/test_[functional_]STEM[_*].py.
ESL = ['methods/test_esl_loss.py', 'methods/test_esl_step.py', 'methods/test_recorded.py']
ALIKE = [f'methods/test_{name}.py' for name in (
    'defaults', 'apart', 'counting', 'warm_up', 'weak_view', 'over_ranks')]
FRAME = ['semi', *ESL, 'methods/test_every_method.py', 'methods/test_cutmix_seg.py', *ALIKE]
EVERY = [*ALIKE, 'methods/test_parts.py', 'methods/test_one_grid.py', 'methods/test_floors.py',
         'methods/test_no_host_copies.py', 'methods/test_every_method.py',
         'methods/test_every_checkpoint.py']
BESIDE = {
    'functional/geometry': ['functional/test_functional_geometry.py', 'methods/test_reco.py'],
    'functional/consistency': ['functional/test_functional_consistency.py',
                               'functional/test_functional_correlation.py'],
    'functional/classmix': ['functional/test_functional_geometry.py'],
    'functional/cutmix': ['functional/test_functional_cutmix.py',
                          'functional/test_functional_beta_boxes.py',
                          'functional/test_functional_xor_boxes.py',
                          'functional/test_functional_consistency.py', 'methods/test_fixmatch.py',
                          'methods/test_pseudoseg.py'],
    'functional/own_gradient': ['functional/test_functional_soft_label.py',
                                'functional/test_functional_contrast.py'],
    'functional/phases': ['test_bench_gpu.py', 'engine/test_profiler_hook.py'],
    'functional/precision': ['models/test_autocast.py', 'methods/test_esl_step.py'],
    'methods/esl': ESL, 'methods/supervised': ['methods/test_every_method.py', 'semi'],
    'engine/hooks/checkpoint_hook': ['engine/test_checkpoint_hook.py',
                                     'engine/test_checkpoint_hook_options.py',
                                     'engine/test_stopped_validation.py'],
    'engine/hooks/step_hook': ['engine/test_teacher_hook.py', 'methods/test_every_run.py'],
    'engine/hooks/part_init_hook': ['engine/test_part_init.py', 'engine/test_reservoir.py',
                                    'engine/test_part_init_ranks.py'],
    'engine/hooks/channels_last_hook': ['engine/test_fast_hooks.py'],
    'engine/optimizer': ['engine/test_optimizer.py', 'methods/test_several_optimizers.py'],
    'engine/hooks/compile_hook': ['engine/test_fast_hooks.py'],
    'engine/hooks/diagnostics_hook': ['engine/test_teacher_hook.py', 'engine/test_run_state.py',
                                      'engine/test_screen.py'],
    'engine/hooks/protocol_hook': ['engine/test_protocol_hook.py', 'engine/test_shards_resume.py'],
    'engine/loops/val_loop': ['engine/test_validation.py'],
    'engine/resume/fingerprint': ['engine/test_fingerprint.py', 'engine/test_run_state.py'],
    'engine/describe': ['engine/test_protocol_hook.py', 'methods/test_every_run.py',
                        'results/test_summarize.py'],
    'engine/finite': ['engine/test_finite_guard.py'],
    'engine/interrupt': ['engine/test_worker_killed.py', 'integration/test_interrupted.py'],
    'engine/loops/train_loop': ['engine/test_train_loop.py', 'engine/test_run_state.py',
                                'methods/test_every_run.py'],
    'engine/metrics': ['engine/test_validation.py'],
    'engine/ranks': ['engine/test_on_main.py', 'engine/test_part_init_ranks.py',
                     'engine/test_part_init.py'],
    'engine/unwrap': ['engine/test_fast_hooks.py', 'engine/test_part_init.py'],
    'engine/rng': ['engine/test_rng.py', 'engine/test_run_state.py'],
    'engine/classes': ['engine/test_engine_classes.py', 'engine/test_teacher_hook.py'],
    'engine/hooks/best_network_hook': ['engine/test_validation.py', 'engine/test_screen.py',
                                       'engine/test_checkpoint_hook.py'],
    'engine/hooks/testing': ['integration/test_inference_api.py', 'test_tools.py'],
    'engine/hooks/time_left_hook': ['methods/test_time_left.py', 'engine/test_screen.py'],
    'engine/host_memory': ['engine/test_host_memory.py'],
    'engine/loops/waiting': ['engine/test_waiting.py', 'engine/test_worker_killed.py'],
    'engine/loops/own_output': ['engine/test_validation.py'],
    'engine/resume/run_state': ['engine/test_run_state.py', 'engine/test_run_state_saved.py',
                                'engine/test_early_stopping.py'],
    'engine/resume/completeness': ['engine/test_completeness.py', 'engine/test_run_state.py'],
}
SWAPS = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd, ast.FloorDiv: ast.Mult, ast.Mod: ast.FloorDiv, ast.And: ast.Or,
    ast.Or: ast.And}


# ------------------------------------------------------------------------------------ the faults

def compared(node):
    if isinstance(node, ast.Compare) and type(node.ops[0]) in SWAPS:
        node.ops[0] = SWAPS[type(node.ops[0])]()
        yield node


def calculated(node):
    if isinstance(node, (ast.BinOp, ast.BoolOp)) and type(node.op) in SWAPS:
        node.op = SWAPS[type(node.op)]()
        yield node


def negated(node):
    """A ``not``, ``~`` or ``-`` is left out."""
    if isinstance(node, ast.UnaryOp) and not isinstance(node.operand, ast.Constant):
        yield node.operand


def chosen(node):
    """A choice falls the other way."""
    if isinstance(node, ast.IfExp):
        node.body, node.orelse = node.orelse, node.body
        yield node


def constant(node):
    if isinstance(node, ast.Constant) and isinstance(node.value, (bool, int, float)):
        value = node.value
        node.value = not value if isinstance(value, bool) else value + 1 if isinstance(
            value, int) else value * 1.5 + 0.01
        yield node


def unsaid(node):
    """A keyword of a call is left out."""
    if isinstance(node, ast.Call):
        for index, keyword in enumerate(node.keywords):
            if keyword.arg is not None:
                changed = copy.deepcopy(node)
                del changed.keywords[index]
                yield changed


KINDS = (compared, calculated, negated, chosen, constant, unsaid)


def expressions(tree):
    """Those whose change may matter: not annotations, nor what an error says."""
    stack = [tree]
    while stack:
        node = stack.pop()
        if isinstance(node, ast.expr):
            yield node
        for name, value in ast.iter_fields(node):
            if name in ('annotation', 'returns', 'decorator_list') or isinstance(
                    node, (ast.Raise, ast.JoinedStr, ast.ImportFrom)):
                continue
            children = value if isinstance(value, list) else [value]
            stack += [child for child in children if isinstance(child, ast.AST)]


def faults(path: Path):
    """``{'file', 'line', 'kind', 'was', 'is', 'start', 'end'}`` of each; offsets in bytes."""
    source = path.read_bytes()
    begins = [0]
    for line in source.splitlines(keepends=True):
        begins.append(begins[-1] + len(line))
    for node in expressions(ast.parse(source)):
        start = begins[node.lineno - 1] + node.col_offset
        end = begins[node.end_lineno - 1] + node.end_col_offset
        for kind in KINDS:
            for changed in kind(copy.deepcopy(node)):
                fault = dict(file=path.relative_to(ROOT).as_posix(), line=node.lineno,
                             kind=kind.__name__, was=source[start:end].decode(),
                             now=f'({ast.unparse(changed)})', start=start, end=end)
                told = source + json.dumps(fault, sort_keys=True).encode()
                yield dict(fault, key=hashlib.sha256(told).hexdigest()[:16])


# -------------------------------------------------------------------------------------- the tests

def beside(file: str) -> list:
    path = Path(file).relative_to('mmseg_esl').with_suffix('')
    room = path.parts[0]
    if path.as_posix() in BESIDE:
        found = [Path('tests', name) for name in BESIDE[path.as_posix()]]
    else:
        found = [p for start in ('test', 'test_functional') for end in ('', '_*')
                 for p in sorted(Path(ROOT, 'tests', room).glob(f'{start}_{path.stem}{end}.py'))]
    if room == 'functional':  # draws, defaults, waits and devices: of all files alike
        found += [Path(f'tests/functional/test_functional_{name}.py')
                  for name in ('draws', 'defaults', 'no_sync')]
    if room == 'semi':
        found = [Path('tests', name) for name in FRAME]
    if room == 'methods':  # costs, names, odd inputs: of all methods alike
        found += [Path('tests', name) for name in EVERY]
    there = [str((ROOT / p).relative_to(ROOT)) for p in found if (ROOT / p).exists()]
    return there or [f'tests/{room}']


def run(folder: Path, tests: list) -> int:
    """pytest's exit status in a process of its own; -1 if it hangs."""
    child = os.fork()
    if not child:
        os.setpgid(0, 0)
        os.chdir(folder)
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        os.environ.update(PYTHONPATH=str(folder), PYTHONDONTWRITEBYTECODE='1')
        sys.dont_write_bytecode = True
        sys.path[:] = [str(folder), *(p for p in sys.path if Path(p).resolve() != ROOT)]
        status = 99
        try:
            import pytest
            status = int(pytest.main(['-x', '-q', '-p', 'no:cacheprovider', '-p', 'no:xdist',
                                      *tests]))
        finally:
            os._exit(status)
    end = time.monotonic() + LIMIT
    while time.monotonic() < end:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.WEXITSTATUS(status) if os.WIFEXITED(status) else 98
        time.sleep(0.05)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return -1


class Copy:
    """The project in a folder of its own, one file of which may hold a fault."""

    def __init__(self, folder: Path):
        self.folder = folder / 'project'
        ignored = shutil.ignore_patterns('.*', '__pycache__', 'work_dirs', '*.egg-info')
        shutil.copytree(ROOT, self.folder, ignore=ignored)
        self.sound: dict = {}

    def check(self, tests: list) -> None:
        """Without a fault the tests pass, or they would notice nothing.

        Raises:
            SystemExit: they do not.
        """
        for test in tests:
            if test not in self.sound:
                self.sound[test] = run(self.folder, [test])
            if self.sound[test]:
                raise SystemExit(f'{test} fails without any fault: mend it first')

    def status(self, fault: dict, tests: list) -> int:
        path = self.folder / fault['file']
        source = path.read_bytes()
        path.write_bytes(source[:fault['start']] + fault['now'].encode() + source[fault['end']:])
        try:
            return run(self.folder, tests)
        finally:
            path.write_bytes(source)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--sample', type=int, help='so many faults, drawn at random; default: all')
    parser.add_argument('--seed', type=int, default=0, help='of the sample')
    parser.add_argument('--only', default='', help='files whose path has this in it')
    parser.add_argument('--minutes', type=float, default=float('inf'), help='then stop')
    parser.add_argument('--out', type=Path, default=Path('mutants.jsonl'))
    args = parser.parse_args()
    files = [p for room in ROOMS for p in sorted((ROOT / 'mmseg_esl' / room).rglob('*.py'))]
    every = [fault for path in files if args.only in path.as_posix() for fault in faults(path)]
    if args.sample is not None:
        every = random.Random(args.seed).sample(every, min(args.sample, len(every)))
    known = rows(args.out)
    preload()
    end, found = time.monotonic() + 60 * args.minutes, []
    with tempfile.TemporaryDirectory() as folder, args.out.open('a') as out:
        out.write('\n')  # behind a line that was cut
        project = Copy(Path(folder))
        for fault in every:
            row = known.get(fault['key'])
            if row is None and time.monotonic() < end:
                tests = beside(fault['file'])
                project.check(tests)
                status = project.status(fault, tests)
                row = dict(fault, noticed=status != 0, status=status)
                print(json.dumps(row), file=out, flush=True)
                print('.' if row['noticed'] else 'S', end='', flush=True)
            if row is not None:
                found.append(row)
    missed = [row for row in found if not row['noticed']]
    print()
    for row in missed:
        print(f'{row["file"]}:{row["line"]} ({row["kind"]}): {row["was"]}  ->  {row["now"]}')
    share = 100 * (1 - len(missed) / max(1, len(found)))
    print(f'{len(found)} of {len(every)} faults tried, {len(found) - len(missed)} noticed '
          f'({share:.1f} %)')
    return 0


def rows(path: Path) -> dict[str, dict]:
    """What is known of faults, by key; of a line that was cut while it was written nothing."""
    found = {}
    for line in path.read_text().splitlines() if path.is_file() else ():
        with contextlib.suppress(ValueError, LookupError, TypeError):
            row = json.loads(line)
            found[row['key']] = row
    return found


def preload() -> None:
    """Import what no fault is in, so that it need not be imported again for each."""
    os.environ.setdefault('OMP_NUM_THREADS', '1')
    import hypothesis  # noqa: F401
    import mmengine.runner  # noqa: F401
    import pytest  # noqa: F401
    import torch
    torch.set_num_threads(1)
    try:
        import sklearn.cluster  # noqa: F401
    except ImportError:
        pass


if __name__ == '__main__':
    sys.exit(main())
