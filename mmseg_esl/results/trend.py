"""Whether a training was long enough: how its validations end."""
from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from .run import SCALARS, Run, key_of, read_run

RISING = 0.5  # points in a quarter of the run (our choice: less is noise between validations)


def last_quarter(run: Run, metric: str = 'mIoU') -> tuple[float, float] | None:
    """Points that the deciding network's metric gains in a run's last quarter, and their error.

    The slope of a straight line through the validations of the second half, and its standard
    error; None with fewer than three of them that are numbers.
    """
    if not run.validations:
        return None
    key = key_of(run.networks(metric)[0], metric)
    steps = [step for step, row in run.validations.items()
             if step >= run.max_iters / 2 and math.isfinite(row[key])]
    if len(steps) < 3:
        return None
    values = [run.validations[step][key] for step in steps]
    (slope, _), covariance = np.polyfit(steps, values, 1, cov=True)
    error = math.sqrt(max(covariance[0, 0], 0))
    return float(slope * run.max_iters / 4), error * run.max_iters / 4


def rising(run: Run, metric: str = 'mIoU') -> str:
    """A sentence, if the run is still learning at its end, or seems to be; else ''."""
    gain, error = last_quarter(run, metric) or (0, 0)
    if gain < RISING:
        return ''
    return (f'{run.folder.name} {"is" if gain > error else "may be"} still rising, {gain:+.1f} ± '
            f'{error:.1f} {metric} in its last quarter: so short a run does not show yet what '
            'unlabelled images bring; train longer')


def flat(run: Run, metric: str = 'mIoU') -> bool:
    """Whether the run is known to have stopped learning; its validations may not be able to say."""
    found = last_quarter(run, metric)
    return found is not None and sum(found) < RISING


def baseline_of(folder) -> Path | None:
    """The run of the baseline that ``convert_config.py --also-supervised`` wrote beside a config.

    Args:
        folder: work folder of the other one; its name and '_supervised' are looked for.
    """
    folder = Path(folder).resolve()
    beside = folder.with_name(f'{folder.name}_supervised')
    return beside if list(beside.glob(f'*/{SCALARS}')) else None


def read_baseline(folder) -> Run | None:
    """The run that :func:`baseline_of` finds, if it is finished."""
    beside = baseline_of(folder)
    run = read_run(beside, check=False) if beside else None
    return run if run is not None and (run.cfg.get('train_cfg') or {}).get('max_iters') \
        and run.finished else None
