"""The page: what stands where, filled into page.html (which escapes every name)."""
from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import jinja2

from ..commands import command
from ..results.compare import compare, sees_unlabeled
from ..results.run import Run, as_training_leaves_it, config_of, key_of, read_run
from ..results.trend import read_baseline, rising
from . import curves
from .read import audits, commands, environment, pictures
from .settings import settings

METRIC = 'mIoU'
# What an iteration costs: title of the plot -> {name in it: key of a training row}
COSTS = {'seconds per iteration': {'all': 'time', 'waiting for data': 'data_time'},
         'GPU memory at most, MB': {'': 'memory'},
         'main memory with loader workers, MB': {'': 'host_memory'}}
NOT_CURVES = {  # of a training row; base_lr is lr of one group
    'iter', 'step', 'base_lr', *(key for keys in COSTS.values() for key in keys.values())}
PER_CLASS = {'precision': 'precision', 'recall': 'recall', 'coverage': 'coverage',
             'hard_accuracy': 'hard accuracy', 'soft_hit_rate': 'soft hit rate', 'ece': 'ECE'}
DOMINANT = {'dominant/1': '1', 'dominant/2': '2', 'dominant/3_or_more': '3+'}
ANCHORS = {title: title.lower().replace(' ', '-') for title in (
    'Result', 'IoU of each class', 'Settings', 'Training', 'Time and memory',
    'Audit of the pseudo labels', 'Pictures', 'Environment', 'Reproduce')}
SHARES = {'hard_share': 'hard', 'soft_share': 'soft', 'true_share': 'true'}


@dataclass
class Panel:
    """One small plot: title, inline SVG, ``[(name, colour, last value as text)]``."""
    title: str
    svg: str
    legend: list


def make_page(folder, baseline=()) -> str:
    """The HTML page of a run, complete in itself: no script, nothing is loaded from elsewhere.

    Args:
        folder: the work folder of mmengine's Runner.
        baseline: work folders of finished supervised runs, to say whether unlabelled images help;
            none: that of the config that ``--also-supervised`` wrote, if it was trained.

    Raises:
        ValueError: it is no work folder, or its logs or config cannot be read; see ``read_run``.
    """
    with as_training_leaves_it(folder):
        return _page(read_run(folder, check=False), baseline)


def _page(run: Run, baseline) -> str:
    config = config_of(run.folder, run.starts[-1])
    if 'model' not in run.cfg:  # such as a Runner that was built from arguments dumps
        raise ValueError(f"{config} has no 'model': put the config of this run in its place")
    notes = _remarks(run)
    found = audits(run.folder, notes)
    if found and found[-1]['iter'] > run.last_step:
        notes.append(f'the audit of iteration {found[-1]["iter"]} lies beyond the last logged one, '
                     f'{run.last_step}: it may be of an earlier start')
    images = pictures(run.folder, notes)
    networks = [name for name in run.evaluated
                if any(key_of(name, METRIC) in row for row in run.validations.values())]
    chosen = settings(run)
    env = jinja2.Environment(
        loader=jinja2.FileSystemLoader(str(Path(__file__).parent)), autoescape=True,
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    env.filters.update(number=number, percent=percent, share=_clamped)
    return env.get_template('page.html').render(
        run=run, name=run.folder.resolve().name, notes=notes, settings=chosen,
        headline=_headline(run, chosen), helps=_helps(run, baseline), networks=networks,
        scores=_scores(run, networks), score_panel=_score_panel(run, networks),
        panels=_training_panels(run), cost_panels=_cost_panels(run),
        classes=_classes(run, networks), audit_panels=_audit_panels(
            found, max([run.last_step, *(audit['iter'] for audit in found)])),
        audit=_audit(found[-1]) if found else None, parts=_parts(found[-1]) if found else None,
        pictures=images, environment=environment(run), commands=commands(run), command=command,
        config=config.read_text(encoding='utf-8'),
        anchors=ANCHORS, per_class_names=PER_CLASS, share_names=SHARES, colours=curves.COLOURS)


# --------------------------------------------------------------------------------------- numbers


def number(value, digits: int = 2) -> str:
    """'–' for None, 'nan' for what is no number."""
    if value is None:
        return '–'
    return f'{value:.{digits}f}' if math.isfinite(value) else str(value)


def percent(value, digits: int = 1) -> str:
    return number(None if value is None else 100 * value, digits)


def _clamped(value) -> str:
    """A width in per cent, of a value in [0, 100]; 0 for what is no number."""
    known = value is not None and math.isfinite(value)
    return f'{min(max(value, 0), 100):.2f}' if known else '0'


def _short(value) -> str:
    return 'none' if value is None else f'{value:.4g}'


def _numeric(value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


# ----------------------------------------------------------------------------------------- parts


def _remarks(run: Run) -> list[str]:
    """What a reader must know before the figures; takes validations without iteration away."""
    notes, train = list(run.notes), run.cfg.get('train_cfg') or {}
    if run.validations.pop(0, None):
        notes.append('validations were logged by epoch, so that their iteration is not known, and '
                     'are left out: set default_hooks.logger.log_metric_by_epoch=False')
    most = train.get('max_iters')
    if not run.training:
        notes.append('no training was logged: the run ended before the first interval of the '
                     'logger, or has no LocalVisBackend among its vis_backends')
    elif most and run.last_step < most:
        notes.append(f'unfinished: last logged iteration {run.last_step} of {most}')
    if run.training and not run.validations:
        notes.append('no validation yet')
    if most and run.finished and _scored(run) and rising(run):
        notes.append(rising(run))
    return notes


def _headline(run: Run, chosen: dict) -> list[str]:
    labeled, unlabeled = ((run.protocol.get(part) or {}).get('count')
                          for part in ('labeled', 'unlabeled'))
    counts = [f'{count} {name}' for count, name in
              ((labeled, 'labelled'), (unlabeled, 'unlabelled')) if count is not None]
    lists = run.protocol.get('description') or 'lists of images not recorded (ProtocolHook)'
    seed = 'not recorded' if run.seed is None else run.seed
    return [chosen['training'], f'{chosen["model"]}, {chosen["backbone"]}, {chosen["head"]}',
            _dataset(run.cfg) + (f': {" and ".join(counts)} images' if counts else ''), lists,
            _length(run), f'seed {seed}']


def _scored(run: Run) -> bool:
    """Whether validations have the metric at all."""
    return any(key.endswith(METRIC) for row in run.validations.values() for key in row)


def _helps(run: Run, baseline) -> str:
    """Whether the unlabelled images help, in one sentence; '' where there is nothing to say."""
    length = (run.cfg.get('train_cfg') or {}).get('max_iters')
    if not length or not run.finished or not sees_unlabeled(run):
        return ''
    try:
        given = baseline or [found for found in [read_baseline(run.folder)] if found]
        if not given:
            return ('Whether the unlabelled images help is not known: train the supervised '
                    f'baseline ({command("convert")} YOURS.py --unlabeled DIR --method supervised '
                    f'--out {run.folder.name}_supervised.py) and write this page again.')
        found, = compare([run], given)
    except ValueError as error:  # of other metrics, say
        return f'Whether the unlabelled images help cannot be said: {error}'
    return ' '.join(filter(None, [found.sentence, found.advice, *(
        f'Note: {note}.' for note in found.notes)]))


def _length(run: Run) -> str:
    most = (run.cfg.get('train_cfg') or {}).get('max_iters')
    return f'{run.last_step} of {most} iterations' if most else f'{run.last_step} iterations'


def _dataset(cfg) -> str:
    found = ((cfg.get('val_dataloader') or {}).get('dataset') or {}).get('type')
    return str(found or 'data set not in the config')


def _values(run: Run, network: str) -> dict:
    """``{iteration: mIoU}`` of one network."""
    key = key_of(network, METRIC)
    return {step: row[key] for step, row in run.validations.items() if key in row}


def _best(values: dict) -> int:
    """The first iteration with the highest value; what is no number comes last."""
    return max(values, key=lambda s: -math.inf if math.isnan(values[s]) else values[s])


def _scores(run: Run, networks: list) -> dict | None:
    """Last, and best by the network that predicts, whose iteration counts for all."""
    if not networks:
        return None
    values = {name: _values(run, name) for name in networks}
    last, best = max(values[networks[0]]), _best(values[networks[0]])
    return dict(last=last, best=best, judge=networks[0] or 'network', rows=[
        (name or 'network', found.get(last), found.get(best)) for name, found in values.items()])


def _score_panel(run: Run, networks: list) -> Panel | None:
    if not networks:
        return None
    values = {name or 'network': _values(run, name) for name in networks}
    marks = {name: _best(found) for name, found in values.items()}
    svg = curves.lines({name: (list(found), list(found.values()))
                        for name, found in values.items()}, run.last_step, marks, points=True)
    return Panel(f'{METRIC}, per cent', svg, [
        (name, colour, f'best {number(values[name][at])} at {at}')
        for (name, at), colour in zip(marks.items(), curves.COLOURS)])


def _training_panels(run: Run) -> list[Panel]:
    """Losses first, then the rest as it was logged; shares of dominant classes in one."""
    rows = _named_as_now(run.training)
    keys = dict.fromkeys(key for row in rows.values() for key, value in row.items()
                         if _numeric(value) and key not in NOT_CURVES)
    shares = [key for key in keys if key in DOMINANT]
    panels = []
    for key in sorted(keys, key=lambda key: 'loss' not in key):
        if key.startswith('class/'):  # in its _class_panel
            continue
        if key in shares:
            if key == shares[0]:
                panels += _shares_panel([dict(row, iter=step) for step, row in rows.items()],
                                        {key: DOMINANT[key] for key in shares}, run.last_step)
            continue
        found = {step: row[key] for step, row in rows.items() if _numeric(row.get(key))}
        panels.append(_line_panel(key, {'': found}, run.last_step))
        panels += _class_panel(key, [k for k in keys if k.startswith(f'class/{key}/')], rows,
                               run.last_step)
    return panels


def _cost_panels(run: Run) -> list[Panel]:
    """Time and memory over the run; plots of which nothing was logged are left out."""
    panels = []
    for title, keys in COSTS.items():
        found = {name: {step: row[key] for step, row in run.training.items()
                        if _numeric(row.get(key))} for name, key in keys.items()}
        found = {name: values for name, values in found.items() if values}
        if found:
            panels.append(_line_panel(title, found, run.last_step))
    return panels


def _named_as_now(training: dict) -> dict:
    """Rows of training with the names of release 0.1.0 (dominant/3+, anchors/sky) replaced."""
    whole = {key for row in training.values() for key in row if '/' not in key}

    def name(key):
        if key == 'dominant/3+':
            return 'dominant/3_or_more'
        return f'class/{key}' if key.partition('/')[0] in whole and '/' in key else key

    return {step: {name(key): value for key, value in row.items()}
            for step, row in training.items()}


def _class_panel(name: str, keys: list, rows: dict, until: int) -> list[Panel]:
    """What DiagnosticsHook logs of each class, beside the mean over the classes."""
    rows = {step: row for step, row in rows.items() if any(key in row for key in keys)}
    if not rows:
        return []
    values = [[row.get(key, math.nan) for row in rows.values()] for key in keys]
    known = [v for line in values for v in line if math.isfinite(v)]
    svg = curves.heat(list(rows), [key[len(f'class/{name}/'):] for key in keys], values, until)
    ends = f': dark {_short(min(known))} to light {_short(max(known))}' if known else ''
    return [Panel(f'{name}, each class{ends}', svg, [])]


def _line_panel(title: str, found: dict, until: int) -> Panel:
    """``found``: ``{name: {iteration: value}}``."""
    svg = curves.lines({name: (list(v), list(v.values())) for name, v in found.items()}, until)
    return Panel(title, svg, [(name, colour, f'last {_short([*v.values()][-1])}' if v else 'none')
                              for (name, v), colour in zip(found.items(), curves.COLOURS)])


def _shares_panel(rows: list, keys: dict, until: int) -> list[Panel]:
    """``rows``: with ``iter`` and the shares; those that lack one are left out.

    ``keys``: ``{key: how many dominant classes}``.
    """
    rows = [row for row in rows if all(_numeric(row.get(key)) for key in keys)]
    if not rows:
        return []
    svg = curves.stacked([row['iter'] for row in rows],
                         {key: [row[key] for row in rows] for key in keys}, until)
    return [Panel('pixels by number of dominant classes', svg, [
        (size, colour, f'last {percent(rows[-1][key])} %')
        for (key, size), colour in zip(keys.items(), curves.COLOURS)])]


def _classes(run: Run, networks: list) -> list[tuple]:
    """``(class, [IoU of each network])`` of the last validation, in the order of the classes."""
    if not networks:
        return []
    found = [run.classes(name) for name in networks]
    return [(label, [one.get(label) for one in found])
            for label in dict.fromkeys(label for one in found for label in one)]


# ----------------------------------------------------------------------------------------- audit


def _audit_panels(found: list, until: int) -> list[Panel]:
    def over_time(key):
        return {audit['iter']: audit[key] for audit in found if _numeric(audit.get(key))}

    panels = []
    for title, names in (
            ('pixels whose label is right', {'soft, true class in the set': 'soft_hit_rate',
                                             'hard, argmax is true': 'hard_accuracy'}),
            ('expected calibration error', {'ECE': 'ece'})):
        values = {name: over_time(key) for name, key in names.items()}
        values = {name: v for name, v in values.items() if v}
        if values:
            panels.append(_line_panel(title, values, until))
    rows = [dict(audit.get('dominant') or {}, iter=audit['iter']) for audit in found]
    return panels + _shares_panel(rows, {size: size for size in ('1', '2', '3+')}, until)


def _at(values, index: int):
    """An entry of a list that may be short, or no list, or hold nulls."""
    known = isinstance(values, list) and index < len(values)
    return values[index] if known and _numeric(values[index]) else None


def _audit(audit: dict) -> dict:
    per_class, names = audit.get('per_class') or {}, audit.get('classes') or []
    shares = {key: [_at(per_class.get(key), i) for i in range(len(names))] for key in SHARES}
    known = [v for values in shares.values() for v in values if v is not None]
    return dict(
        iter=audit['iter'], images=audit.get('images'), pixels=audit.get('pixels'),
        scale=100 / max([*known, 1e-9]),
        rows=[(name, [_at(per_class.get(key), i) for key in PER_CLASS],
               [values[i] for values in shares.values()]) for i, name in enumerate(names)])


def _parts(audit: dict) -> dict | None:
    parts, names = audit.get('parts') or {}, audit.get('classes') or []
    usage, purity = parts.get('usage') or [], parts.get('part_purity') or []
    most = max([len(row) for row in usage if isinstance(row, list)], default=0)
    if not parts:
        return None

    def of_part(table, index, part):
        return _at(table[index], part) if index < len(table) else None

    return dict(iter=audit['iter'], num=most, rows=[
        (name, _at(parts.get('entropy'), i), _at(parts.get('purity'), i),
         [(of_part(usage, i, k), of_part(purity, i, k)) for k in range(most)])
        for i, name in enumerate(names)])
