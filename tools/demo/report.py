"""The demo's table: on the terminal, as Markdown and as JSON."""
from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
from importlib import metadata
from pathlib import Path

ROWS = {'supervised student': 'supervised', 'supervised teacher': 'supervised, averaged (EMA)',
        'esl_plus student': 'ESL+ student', 'esl_plus teacher': 'ESL+ teacher'}
PACKAGES = ('torch', 'mmengine', 'mmcv-lite', 'mmcv', 'mmsegmentation', 'numpy', 'scikit-learn')


def summarise(results: list) -> tuple[list, list]:
    """Header and rows of text: mIoU (mean, sample standard deviation), then IoU of each class."""
    classes = list(next(iter(results[0]['rows'].values()))['IoU'])
    several = len(results) > 1
    header = ['', 'mIoU' + (' mean ± sd' if several else '')]
    header += [f'seed {r["seed"]}' for r in results] if several else []
    rows = []
    for key, name in ROWS.items():
        found = [r['rows'][key] for r in results]
        each = [f['mIoU'] for f in found]
        row = [name, f'{statistics.mean(each):.1f}' +
               (f' ± {statistics.stdev(each):.1f}' if several else '')]
        row += [f'{m:.1f}' for m in each] if several else []
        row += [f'{statistics.mean(f["IoU"][c] for f in found):.1f}' for c in classes]
        rows.append(row)
    return header + classes, rows


def print_table(results: list, console) -> None:
    from rich.table import Table
    header, rows = summarise(results)
    first = header.index(next(iter(next(iter(results[0]['rows'].values()))['IoU'])))
    # two tables, so that a terminal of 80 columns cuts nothing
    for title, columns in (('mIoU on the test images, per cent', [*range(first)]),
                           ('IoU of each class', [0, *range(first, len(header))])):
        table = Table(title=title)
        for i in columns:
            short = header[i].replace('seed ', '#').replace('mIoU mean', 'mean')
            table.add_column(short, justify='right' if i else 'left',
                             style='bold' if i == 1 else None, no_wrap=True)
        for row in rows:
            table.add_row(*(row[i] for i in columns))
        console.print(table)


def write_report(results: list, args, sizes: dict, root: Path) -> list[Path]:
    """Write results.md and results.json below args.out; returns their paths."""
    header, rows = summarise(results)
    lines = ['| ' + ' | '.join(header) + ' |', '|---' + '|--:' * (len(header) - 1) + '|']
    lines += ['| ' + ' | '.join(row) + ' |' for row in rows]
    facts = dict(seeds=[r['seed'] for r in results], images=sizes,
                 iterations=args.iters or 'as configured', machine=_machine(),
                 versions=_versions(), commit=_commit(root),
                 seconds=[{k: round(v) for k, v in r['seconds'].items()} for r in results])
    lines += ['', 'IoU in per cent on the test images at the last iteration.', '']
    lines += [f'* {name}: {_text(value)}' for name, value in facts.items()]
    markdown, data = args.out / 'results.md', args.out / 'results.json'
    markdown.write_text('\n'.join(lines) + '\n', encoding='utf-8')
    data.write_text(json.dumps(dict(facts, results=results), indent=1) + '\n', encoding='utf-8')
    return [markdown, data]


def _text(value) -> str:
    if isinstance(value, dict):
        return ', '.join(f'{k} {v}' for k, v in value.items())
    return '; '.join(map(_text, value)) if isinstance(value, list) else str(value)


def _machine() -> dict:
    import torch
    gpu = {'gpu': torch.cuda.get_device_name()} if torch.cuda.is_available() else {}
    return dict(system=platform.platform(), cores=os.cpu_count(), threads=torch.get_num_threads(),
                **gpu)


def _versions() -> dict:
    found = {'python': platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _commit(root: Path) -> str:
    """The commit of the clone, '+' if files differ from it; 'unknown' without git."""
    def git(*words):
        return subprocess.run(['git', *words], cwd=root, capture_output=True, text=True,
                              check=True).stdout.strip()
    try:
        changed = git('status', '--porcelain', '-uno')
        return git('rev-parse', '--short', 'HEAD') + ('+' if changed else '')
    except (OSError, subprocess.CalledProcessError):
        return 'unknown'
