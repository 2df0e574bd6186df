"""Results as Markdown. ``found`` is ``dict(cpu=results, cuda=results)``, either of them empty."""
from __future__ import annotations

import re
from pathlib import Path

DEVICES = {'cpu': 'CPU', 'cuda': 'GPU'}
NONE = 'unmeasured'
MB = 1e6


def table(head: list[str], rows: list[list]) -> str:
    lines = [head, ['---'] + ['--:'] * (len(head) - 1), *rows]
    return '\n'.join('| ' + ' | '.join(str(x) for x in line) + ' |' for line in lines)


def both(found: dict, section: str) -> dict:
    """The section's rows on each device, or None."""
    return {name: found[name].get(section, {}).get('rows') for name in DEVICES}


def number(x: float) -> str:
    return f'{x:.2g}' if x < 1 else f'{x:.3g}' if x < 100 else f'{x:.0f}'


def megabytes(x: int) -> str:
    return f'{number(x / MB)} MB' if x >= 0.1 * MB else '< 0.1 MB'


def machines(found: dict) -> str:
    rows = []
    for name, title in DEVICES.items():
        for section, result in found[name].items():
            m, options = result['machine'], result['options']
            counted = f"; counts {result['counted']}" if 'counted' in result else ''
            what = f"{m['gpu']}, beside {m['cpu']}" if m['gpu'] else m['cpu']
            rows.append([f'{section}, {title}', what, m['cores'], m['threads'],
                         '?' if m['load'] is None else f"{m['load']:.1f}",
                         m['torch'], m['commit'] + counted, options['rounds'],
                         'yes' if options['quick'] else 'no'])
        if not found[name]:
            rows.append([f'all, {title}', NONE, *['–'] * 7])
    return table(['measured', 'machine', 'cores', 'threads', 'load', 'torch', 'commit', 'rounds',
                  'quick'], rows)


def pieces(found: dict) -> str:
    out = []
    for device, rows in both(found, 'pieces').items():
        out.append(f'**{DEVICES[device]}**' + ('' if rows else f': {NONE}'))
        for name in dict.fromkeys(row['piece'] for row in rows or []):
            mine = [row for row in rows if row['piece'] == name]
            heads = ['C, K, crop', *mine[0]['contenders']]
            out.append(f'{name}:\n\n' + table(heads, [
                [setting(row), *[cell(x) for x in row['contenders'].values()]] for row in mine]))
    return '\n\n'.join(out)


def setting(row: dict) -> str:
    s = row['setting']
    return f"{s['classes']}, {s['parts']}, {s['crop']}" if s else 'ResNet-50 segmentor'


def cell(x: dict) -> str:
    """Time over ours; operations of forward + backward; waits; memory."""
    return (f"{number(x['ratio'])}×; {x['forward']} + {x['operations'] - x['forward']} op; "
            f"{x['waits']} w; {megabytes(x['memory'])}")


def share(row: dict, names=None) -> float:
    """Of the step's time that the functional calls take, in percent."""
    spent = sum(p['seconds'] for name, p in row['pieces'].items() if names is None or name in names)
    return 100 * spent / row['seconds']['esl']


def step(found: dict) -> str:
    lines = {
        'network, crop, images': lambda r: f"R{r['depth']}, {r['crop']}, {r['images']}",
        'time over the floor': lambda r: f"{r['ratio']:.3f}×",
        'share of all functional calls': lambda r: f'{share(r):.1f} %',
        'operations, teacher to backward': lambda r: r['counts']['operations'],
        'waits, teacher to backward': lambda r: waits(r['counts']['waits']),
        'operations of the EMA': lambda r: r['counts']['ema_operations'],
        'waits of the EMA': lambda r: waits(r['counts']['ema_waits']),
        'peak memory over the floor\'s': lambda r: number(
            r['memory']['esl'] / r['memory']['floor']) + '×'}
    return by_class(found, 'step', lines)


def methods(found: dict) -> str:
    """A row for each method and network, a ratio for each number of classes; both devices."""
    rows = [dict(row, device=name) for name, rows in both(found, 'methods').items()
            for row in rows or []]
    if not rows:
        return NONE
    counts, kinds = sorted({r['classes'] for r in rows}), {}
    for r in rows:
        key = r['device'], r['network'], r['crop'], r['images'], r['method']
        kinds.setdefault(key, {})[r['classes']] = r
    lines = []
    for (device, network, crop, images, method), by in sorted(kinds.items()):
        any_ = next(iter(by.values()))
        encoder, decoder = any_['units']
        lines.append([
            method, f'{DEVICES[device]}, {network}, {crop}, {images}',
            number(encoder) if encoder == decoder else f'{number(encoder)} ({number(decoder)})',
            *[f"{by[c]['ratio']:.2f}×" if c in by else NONE for c in counts],
            *[number(by[c]['memory']['step'] / by[c]['memory']['floor']) + '×' if c in by else NONE
              for c in counts],
            any_['counts']['operations'] + any_['counts']['ema_operations'],
            waits(any_['counts']['waits']), number(any_['images_per_second'])])
    return table(['method', 'network, crop, images', 'forwards a pair',
                  *[f'time, C = {c}' for c in counts], *[f'memory, C = {c}' for c in counts],
                  'operations', 'waits', 'images/s'], lines)


def waits(counts: dict) -> str:
    return ', '.join(f'{n} × {name}' for name, n in counts.items()) or '0'


def shares(found: dict) -> str:
    rows = [r for rows in both(found, 'step').values() for r in rows or []]
    names = dict.fromkeys(name for r in rows for name in r['pieces'])
    return by_class(found, 'step', {
        f'`{name}`': lambda r, name=name: f'{share(r, [name]):.2f} %' for name in names})


def by_class(found: dict, section: str, lines: dict) -> str:
    """A column for each device and number of classes."""
    columns = []
    for device, rows in both(found, section).items():
        columns += [(f"{DEVICES[device]}, C = {r['classes']}", r) for r in rows or []]
        columns += [] if rows else [(DEVICES[device], None)]
    return table(['', *[title for title, _ in columns]], [
        [title, *[NONE if r is None else line(r) for _, r in columns]]
        for title, line in lines.items()])


def loading(found: dict) -> str:
    out = []
    for device, rows in both(found, 'loading').items():
        steps = found[device].get('step', {}).get('rows')
        for r in rows or []:
            over = NONE if not steps else (
                number(r['images_per_second'] / steps[0]['images_per_second']) + '×')
            out.append([DEVICES[device], f"{r['height']} × {r['width']}", r['crop'], r['workers'],
                        number(r['images_per_second']), over])
        if not rows:
            out.append([DEVICES[device], *['–'] * 3, NONE, NONE])
    return table(['step on', 'images', 'crop', 'workers', 'images per second',
                  "over the step's (first C)"], out)


def growth(found: dict) -> str:
    """Time of our pieces against the smallest number of images."""
    out = []
    for device, rows in both(found, 'growth').items():
        counts = sorted({r['images'] for r in rows or []})
        lines = []
        for name in dict.fromkeys(r['piece'] for r in rows or []):
            spent = {r['images']: r['seconds'] for r in rows if r['piece'] == name}
            lines.append([name, *[number(spent[n] / spent[counts[0]]) + '×' for n in counts]])
        out.append(f'**{DEVICES[device]}**' + (
            '\n\n' + table(['images', *counts], lines) if rows else f': {NONE}'))
    return '\n\n'.join(out)


def ranks(found: dict) -> str:
    rows = both(found, 'ranks')['cpu']
    if not rows:
        return NONE
    return table(['processes', 'images a step', 'time of a step'], [
        [r['ranks'], r['images'], number(r['seconds'] / rows[0]['seconds']) + '×'] for r in rows])


TABLES = dict(machines=machines, pieces=pieces, step=step, shares=shares, methods=methods,
              loading=loading, growth=growth, ranks=ranks)


def fill(page: Path, found: dict) -> None:
    """Rewrite what stands between ``<!-- table: NAME -->`` and ``<!-- end -->``.

    Raises:
        ValueError: a name that is none of ours, or a mark without its end.
    """
    text = page.read_text(encoding='utf-8')
    marks = re.findall(r'<!-- table: (\S+) -->', text)
    unknown = [name for name in marks if name not in TABLES]
    if unknown or len(marks) != text.count('<!-- end -->'):
        raise ValueError(f'{page}: each <!-- table: NAME --> needs an <!-- end -->, and NAME must '
                         f'be one of {list(TABLES)}; unknown: {unknown}')

    def block(match):
        return f'{match[1]}\n\n{TABLES[match[2]](found)}\n\n<!-- end -->'

    text = re.sub(r'(<!-- table: (\S+) -->).*?<!-- end -->', block, text, flags=re.DOTALL)
    page.write_text(text, encoding='utf-8')
