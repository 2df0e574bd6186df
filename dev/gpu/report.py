"""What dev/gpu/run.py has found, read from its folder, and as tables."""
from __future__ import annotations

import json
from pathlib import Path

DONE = 'done'  # key of the row that says that nothing is left
MACHINE = 'machine'  # key of the row that says what measured the rows behind it
BEGUN = 'begun, and ended neither way: its process was killed, or out of time'


def done(out: Path, part: str) -> bool:
    return DONE in _every(out, part)


def machine(out: Path, part: str) -> dict:
    """What measured a part's rows; {} where no row says it."""
    return _every(out, part).get(MACHINE, {})


def whose(machine: dict) -> tuple:
    """What rows of one table must have in common: device, torch, and how large all was."""
    return tuple(machine.get(key) for key in ('gpu', 'torch', 'rehearsed'))


def rows(out: Path, part: str) -> dict[str, dict]:
    """The rows of a part by key, each with its commit; of one that was measured twice the last, of
    another machine or a rehearsal none, half a line none."""
    return {key: row for key, row in _every(out, part).items() if key not in (DONE, MACHINE)}


def append(out: Path, part: str, row: dict | None) -> None:
    with open(out / f'{part}.jsonl', 'a', encoding='utf-8') as file:
        file.write((json.dumps(row) if row else '') + '\n')


def _every(out: Path, part: str) -> dict[str, dict]:
    path, found = out / f'{part}.jsonl', {}
    for line in path.read_text(encoding='utf-8').splitlines() if path.is_file() else ():
        try:
            row = json.loads(line)
            key, before = row['key'], found.get(MACHINE, {})
            if key == MACHINE and whose(row) != whose(before):
                found = {}  # what was found before is not of this machine
            found[key] = row if key == MACHINE else dict(row, commit=before.get('commit', '?'))
        except (ValueError, LookupError, TypeError, AttributeError):  # cut, or another's
            continue
    return found


def report(out: Path) -> str:
    """Markdown of all parts that have begun."""
    parts = [part for part in (
        about(out), tests(out), steps(out, 'steps'), steps(out, 'transformers'), settings(out),
        loading(out)) if part]
    return '\n\n'.join(parts) + '\n'


def table(head: list[str], lines: list[list]) -> str:
    lines = [head, ['---', *['--:'] * (len(head) - 1)], *lines]
    return '\n'.join('| ' + ' | '.join(str(cell).replace('|', '/').replace('\n', ' ')
                                       for cell in line) + ' |' for line in lines)


def about(out: Path) -> str:
    """The machine, with the commits of its rows: an earlier start may have been of another one.
    Where parts are of several machines, each with its parts."""
    found, lines = {}, []
    for part in sorted(path.stem for path in out.glob('*.jsonl')):
        m = machine(out, part)
        if m:
            found.setdefault(whose(m), (m, []))[1].append(part)
    for m, parts in found.values():
        commits = dict.fromkeys(row['commit'] for part in parts for row in rows(out, part).values())
        lines.append(f"{m['gpu'] or m['cpu']}, Python {m['python']}, torch {m['torch']}, commit "
                     f"{', '.join(commits) or m['commit']}"
                     + (', a rehearsal' if m['rehearsed'] else '')
                     + (f" ({', '.join(parts)})" if len(found) > 1 else ''))
    return '\n\n'.join(lines)


def tests(out: Path) -> str:
    found = {key: row for key, row in rows(out, 'tests').items() if 'outcome' in row}
    if not found:
        return ''
    by = {name: sum(row['outcome'] == name for row in found.values())
          for name in ('passed', 'failed', 'skipped')}
    text = '## Tests\n\n' + ', '.join(f'{number} {name}' for name, number in by.items())
    failed = [[f'`{key}`', row['failed']] for key, row in found.items() if row.get('failed')]
    return text + ('\n\n' + table(['failed', 'why'], failed) if failed else '')


def steps(out: Path, part: str) -> str:
    found, lines = rows(out, part), []
    if not found:
        return ''
    for key, row in found.items():
        if row.get('failed'):
            lines.append([key, row['failed'], *['–'] * 8])
            continue
        encoder, decoder = row['units']
        lines.append([
            key, row['network'], row['crop'], row['images'],
            f'{encoder:g}' if encoder == decoder else f'{encoder:g} ({decoder:g})',
            f"{1000 * row['seconds']['step']:.0f}", f"{row['ratio']:.2f}×",
            f"{row['images_per_second']:.1f}", f"{row['memory']['step'] / 2 ** 30:.1f}",
            row.get('waits', 'not on a CPU')])
    return f'## Step over floor: {part}\n\n' + table(
        ['method', 'network', 'crop', 'images', 'forwards a pair', 'ms', 'over the floor',
         'images/s', 'GiB', 'waits'], lines)


def settings(out: Path) -> str:
    found = {**rows(out, 'settings'), **rows(out, 'compilation')}
    if not found:
        return ''
    lines = [[key, row['failed'], *['–'] * 5] if row.get('failed') else [
        key, row.get('images', '–'), f"{1000 * row['seconds']:.0f}",
        f"{row['seconds'] / row['floor']:.2f}×", f"{row['images_per_second']:.1f}",
        '–' if row['peak_bytes'] is None else f"{row['peak_bytes'] / 2 ** 30:.1f}",
        row['waits'] or 'not on a CPU'] for key, row in found.items()]
    good = {key: row for key, row in found.items() if not row.get('failed')}
    fastest = min(good, key=lambda key: good[key]['seconds'], default='none')
    return '## Settings, ESL\n\n' + table(
        ['setting', 'images', 'ms', 'over the floor', 'images/s', 'GiB', 'waits'], lines) + \
        f'\n\nFastest: {fastest}.'


def loading(out: Path) -> str:
    found, step = rows(out, 'loading'), rows(out, 'steps').get('esl', {})
    if not found:
        return ''
    speed = step.get('images_per_second')
    return '## Data loading against the step of ESL\n\n' + table(
        ['images', 'images/s', "over the step's"],
        [[key, row['failed'], '–'] if row.get('failed') else [
            key, f"{row['images_per_second']:.1f}",
            f"{row['images_per_second'] / speed:.2f}×" if speed else '–']
         for key, row in found.items()])
