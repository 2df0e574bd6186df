"""Whether a training was long enough: how its validations end."""
from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from .run import SCALARS, Run, key_of, read_run

RISING = 0.5  # points in a quarter of the run (our choice: less is noise between validations)


def last_quarter(run: Run, metric: str = 'mIoU') -> float | None:
    """Points that the deciding network's metric gains in the last quarter of a run.

    The slope of a straight line through the validations of the second half; None with fewer than
    three of them that are numbers.
    """
    if not run.validations:
        return None
    key = key_of(run.networks(metric)[0], metric)
    steps = [step for step, row in run.validations.items()
             if step >= run.max_iters / 2 and math.isfinite(row[key])]
    if len(steps) < 3:
        return None
    slope, _ = np.polyfit(steps, [run.validations[step][key] for step in steps], 1)
    return float(slope * run.max_iters / 4)


def rising(run: Run, metric: str = 'mIoU') -> str:
    """A sentence, if the run is still learning at its end; else ''."""
    gain = last_quarter(run, metric)
    if gain is None or gain < RISING:
        return ''
    return (f'{run.folder.name} is still rising, {gain:+.1f} {metric} in its last quarter: so '
            'short a run does not show yet what unlabelled images bring; train longer')


def flat(run: Run, metric: str = 'mIoU') -> bool:
    """Whether the run is known to have stopped learning; its validations may be too few to say."""
    gain = last_quarter(run, metric)
    return gain is not None and gain < RISING


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
