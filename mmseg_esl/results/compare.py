"""Whether the unlabelled images help: supervised runs beside semi-supervised ones."""
from __future__ import annotations

import math
import statistics
from collections import Counter
from dataclasses import dataclass, field
from typing import Sequence

from scipy import stats

from .run import Run, as_training_leaves_it, key_of, read_run
from .table import mean_sd
from .training import differences, evaluation, identity, title
from .trend import rising

CONFIDENCE = 0.95


@dataclass
class Comparison:
    """One method against the supervised baseline, at the last validation of each run.

    Args:
        baseline, method: titles. network: of the method, the one that predicts.
        metric: such as 'mIoU', in per cent.
        before, after: its values of the baseline and of the method. Where ``seeds`` are given, they
            are of the same seeds in the same order, and differences are taken seed by seed.
        classes: ``{class: mean difference of its IoU}``, the largest gain first.
        others: ``{network: mean of its metric}`` of the method's other networks.
        notes: what makes the comparison less than fair.
    """
    baseline: str
    method: str
    network: str
    metric: str
    before: list[float]
    after: list[float]
    seeds: list = field(default_factory=list)
    classes: dict = field(default_factory=dict)
    others: dict = field(default_factory=dict)
    notes: list = field(default_factory=list)

    @property
    def gain(self) -> float:
        return statistics.mean(self.after) - statistics.mean(self.before)

    @property
    def interval(self) -> tuple[float, float] | None:
        """Student's 95 % interval of the gain (Welch's, where seeds do not pair); None if there
        are too few runs to know a spread."""
        if self.seeds:
            steps = [b - a for a, b in zip(self.before, self.after)]
            if len(steps) < 2:
                return None
            error, freedom = statistics.stdev(steps) / len(steps) ** 0.5, len(steps) - 1
        else:
            if min(len(self.before), len(self.after)) < 2:
                return None
            parts = [(statistics.variance(values) / len(values), len(values) - 1)
                     for values in (self.before, self.after)]
            error = sum(part for part, _ in parts) ** 0.5
            freedom = error ** 4 / sum(part ** 2 / n for part, n in parts) if error else 1
        half = error * stats.t.ppf((1 + CONFIDENCE) / 2, freedom)
        return self.gain - half, self.gain + half

    @property
    def verdict(self) -> str:
        """'help', 'hurt' or 'unclear' (zero lies in the interval, or there is none)."""
        if self.interval is None or self.interval[0] <= 0 <= self.interval[1]:
            return 'unclear'
        return 'help' if self.gain > 0 else 'hurt'

    @property
    def sentence(self) -> str:
        """Do they help, is it more than noise, and on which classes."""
        gain = f'{self.gain:+.1f} {self.metric}'
        if self.interval is None:
            head = (f'One run each cannot tell: {gain}, and another seed alone may move that by a '
                    'point or more. Train at least three seeds of both, each in a folder of its '
                    'own (--work-dir DIR --cfg-options randomness.seed=1)')
        else:
            span = f'95 % interval {self.interval[0]:+.1f} to {self.interval[1]:+.1f}'
            head = {'help': f'The unlabelled images help: {gain} ({span})',
                    'hurt': f'The unlabelled images hurt: {gain} ({span}). Use the supervised '
                            'network',
                    'unclear': f'No difference that is more than noise: {gain} ({span})',
                    }[self.verdict]
        tail = [f'{word} {", ".join(f"{name} {value:+.1f}" for name, value in found)}'
                for word, found in (('most on', self._best(1)), ('lost on', self._best(-1)))
                if found]
        return '; '.join([head, *tail]) + '.'

    def _best(self, sign: int) -> list:
        """Up to three classes that move most, by a point at least."""
        found = [item for item in self.classes.items() if sign * item[1] >= 1]
        return sorted(found, key=lambda item: -sign * item[1])[:3]

    @property
    def advice(self) -> str:
        """Another network of the method that is better by a point or more; or ''."""
        known = {name: value for name, value in self.others.items() if math.isfinite(value)}
        best = max(known, key=known.get, default=None)
        more = 0 if best is None else self.others[best] - statistics.mean(self.after)
        return (f"'{best}' is better than '{self.network}' by {more:.1f}: export and predict with "
                f'--network {best}.') if more >= 1 else ''

    def markdown(self) -> str:
        """Both rows, the classes, and the sentences."""
        lines = ['| | runs | ' + f'{self.metric} | of each run |', '|---|--:|--:|---|']
        for name, values in ((self.baseline, self.before),
                             (f'{self.method}, {self.network}', self.after)):
            mean, sd = mean_sd(values)
            spread = '' if sd is None else f' ± {sd:.2f}'
            each = ', '.join(f'{value:.2f}' for value in values)
            lines.append(f'| {name} | {len(values)} | {mean:.2f}{spread} | {each} |')
        if self.classes:
            lines += ['', '| class | difference of IoU |', '|---|--:|',
                      *(f'| {name} | {value:+.2f} |' for name, value in self.classes.items())]
        return '\n'.join([*lines, '', self.sentence, *filter(None, [self.advice]),
                          *(f'Note: {note}.' for note in self.notes)])


def compare(runs: Sequence, baseline: Sequence = (), metric: str = 'mIoU') -> list[Comparison]:
    """Each method among the runs against the supervised ones.

    Args:
        runs: work folders, or Runs, of finished trainings.
        baseline: likewise, the supervised ones; none: those of ``runs`` whose method leaves the
            unlabelled images alone, or that are plain mmseg's.
        metric: as validations name it, without the network.

    Returns:
        one for each method, or setting of a method, in the order of ``runs``.

    Raises:
        ValueError: a folder is no finished run, there is no baseline or nothing to compare, the
            baseline's runs differ in more than the seed, two runs have one seed and one labelled
            list, or the metric of a run is no number.

    Examples:
        >>> import mmseg_esl
        >>> [found] = mmseg_esl.compare(['work_dirs/my_esl', 'work_dirs/my_esl_supervised'])
        >>> found.baseline, found.method, found.verdict
        ('supervised', 'ESL+', 'unclear')
        >>> print(found.sentence)  # doctest: +ELLIPSIS
        One run each cannot tell: ...
    """
    runs, baseline = _read_all(runs), _read_all(baseline)
    baseline = baseline or {path: run for path, run in runs.items() if not sees_unlabeled(run)}
    rest = [run for path, run in runs.items() if path not in baseline]
    baseline = list(baseline.values())
    if not baseline:
        raise ValueError('none of the runs is supervised: name one (--baseline)')
    if not rest:
        raise ValueError('all of the runs are supervised: name runs of a method too')
    before = _alike(baseline)
    if len(before) > 1:
        what = '; '.join(differences([identity(found[0]) for found in before]))
        raise ValueError(f'the supervised runs differ in more than the seed: {what}. Name those to '
                         'compare with (--baseline)')
    groups = _alike(rest)
    names = [title(found[0]) for found in groups]
    what = differences([identity(found[0]) for found in groups])
    return [_compare(before[0], found, metric,
                     f'{name} ({differs})' if names.count(name) > 1 else name)
            for found, name, differs in zip(groups, names, what)]


def sees_unlabeled(run: Run) -> bool:
    """Whether unlabelled images take part; by what ``run.json`` says of its method.

    Of a run that has none (release 0.1.0, or without ProtocolHook) by its config.
    """
    published = run.method.get('published_as') or ''
    if run.method:
        return run.method.get('sees_unlabeled', not published.startswith('Sup baseline'))
    model = run.cfg['model']
    return 'segmentor' in model and 'sup' not in (model.get('semi_train_cfg') or {}).values()


def _read_all(runs) -> dict:
    """``{path: Run}``; a folder that is named twice is one run."""
    found = [_read(run) for run in runs]
    return {run.folder.resolve(): run for run in found}


def _read(run) -> Run:
    run = run if isinstance(run, Run) else read_run(run)
    with as_training_leaves_it(run.folder):  # what is asked of it below, while it has a name
        title(run), evaluation(run.cfg), identity(run), sees_unlabeled(run), list(run.protocol)
    if not run.finished:
        raise ValueError(f'{run.folder}: validated last at {run.last} of {run.max_iters} '
                         'iterations: finish it (--resume) first')
    return run


def _alike(runs: list) -> list[list]:
    """Runs that differ in nothing but the seed (and its lists), together."""
    groups: dict = {}
    for run in runs:
        groups.setdefault(tuple(sorted(map(str, identity(run).items()))), []).append(run)
    return list(groups.values())


def _compare(before: list, after: list, metric: str, name: str) -> Comparison:
    everyone = [*before, *after]
    key = _distinct(before, after)
    shared = {key(run) for run in before} & {key(run) for run in after}
    seeds = sorted(found for found in shared if found[0] is not None)
    if seeds:
        before, after = ([next(run for run in runs if key(run) == seed) for seed in seeds]
                         for runs in (before, after))
    left = [run.folder.name for run in everyone if run not in [*before, *after]]
    mine, (network, *others) = before[0].networks(metric)[0], after[0].networks(metric)
    return Comparison(
        title(before[0]), name, network, metric, _values(before, mine, metric),
        _values(after, network, metric), [seed for seed, _ in seeds],
        _classes(before, mine, after, network),
        {other: statistics.mean(_values(after, other, metric, check=False)) for other in others},
        [*([f'left out, since no run of the other side has their seed: {", ".join(left)}']
           if left else []), *_unfair(before, after, bool(seeds))])


def _distinct(*sides):
    """What pairs the runs of two sides: the seed, and the list too where one seed has several.

    Raises:
        ValueError: two runs of a side have both in common.
    """
    def sha(run):
        return (run.protocol.get('labeled') or {}).get('sha256') or ''

    seeded = [[run for run in runs if run.seed is not None] for runs in sides]
    if all(most == 1 for runs in seeded for most in Counter(run.seed for run in runs).values()):
        return lambda run: (run.seed, '')
    for runs in seeded:
        seen: dict = {}
        for run in runs:
            other = seen.setdefault((run.seed, sha(run)), run)
            if other is not run:
                raise ValueError(f'{other.folder} and {run.folder} have the same seed ({run.seed}) '
                                 'and nothing else tells them apart: leave one of them out')
    return lambda run: (run.seed, sha(run))


def _values(runs: list, network: str, metric: str, check: bool = True) -> list[float]:
    found = [run.validations[run.last][key_of(network, metric)] for run in runs]
    for run, value in zip(runs, found):
        if check and not (isinstance(value, (int, float)) and math.isfinite(value)):
            raise ValueError(f'{run.folder}: its last {metric} is {value}, which compares with '
                             'nothing: leave this run out')
    return found


def _classes(before: list, mine: str, after: list, network: str) -> dict:
    pairs = [[run.classes(name) for run in runs] for runs, name in ((before, mine),
                                                                    (after, network))]
    names = [name for name in pairs[0][0] if all(name in one for found in pairs for one in found)]
    means = [[statistics.mean(one[name] for one in found) for name in names] for found in pairs]
    gains = {name: b - a for name, a, b in zip(names, *means) if b == b and a == a}
    return dict(sorted(gains.items(), key=lambda item: -item[1]))


def _unfair(before: list, after: list, paired: bool) -> list[str]:
    out = [] if paired else ['the runs have no seed in common, so means are compared']
    out += list(filter(None, [next(filter(None, map(rising, before)), '')]))
    for what, of in (('iterations', lambda run: run.max_iters),
                     ('ways of evaluation', lambda run: evaluation(run.cfg)),
                     ('optimisers', lambda run: run.cfg.get('optim_wrapper', {}).get('optimizer')),
                     ('networks', _network),
                     ('transforms of labelled images', lambda run: _labeled(run)[0]),
                     ('numbers of labelled images a step', lambda run: _labeled(run)[1]),
                     ('labelled lists', lambda run: [
                         (run.protocol.get('labeled') or {}).get('sha256')])):
        pairs = zip(before, after) if paired else [(before[0], after[0])]
        if any(of(a) != of(b) for a, b in pairs if None not in (of(a), of(b))
               and [None] not in (of(a), of(b))):
            out.append(f'the {what} differ')
    starts = {bool(run.load_from) for run in [*before, *after]}
    if len(starts) > 1:
        out.append('not all runs begin from trained weights (load_from), which bring a difference '
                   'of their own: begin all of them from the same')
    return out


def _network(run: Run) -> dict:
    """The segmentor that is trained, without what it learns by."""
    model = run.cfg.get('model') or {}
    model = model.get('segmentor', model)
    return {key: _without_losses(model.get(key)) for key in ('backbone', 'neck', 'decode_head')}


def _without_losses(part):
    if isinstance(part, (list, tuple)):
        return [_without_losses(each) for each in part]
    return {key: value for key, value in part.items() if key not in ('loss_decode', 'sampler')} \
        if isinstance(part, dict) else part


def _labeled(run: Run) -> tuple:
    """(transforms of labelled images, how many of them a step has on a GPU); None: not known."""
    loader = run.cfg.get('train_dataloader') or {}
    dataset, sampler = loader.get('dataset') or {}, loader.get('batch_sampler') or {}
    number = sampler.get('total_labeled', sampler.get('num_labeled', loader.get('batch_size')))
    return (dataset.get('labeled') or dataset).get('pipeline'), number
