"""One thing that the doctor found, and how findings are shown."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass

HANG = 8  # blanks before a line that goes on
STYLES = dict(error='bold red', warning='yellow', note='cyan', ok='green')


@dataclass(frozen=True)
class Finding:
    """A finding.

    Args:
        level: 'error' (the run would fail or be worthless), 'warning' (probably not meant),
            'note' (worth knowing) or 'ok'.
        check: what was looked at, a word or two.
        text: what was found.
        fix: what to do about it; '' where there is nothing to do.
        names: all that the text says the first of: files, classes.
    """
    level: str
    check: str
    text: str
    fix: str = ''
    names: tuple = ()

    def __post_init__(self) -> None:
        if self.level not in STYLES:
            raise ValueError(f'unknown level {self.level!r}; known: {", ".join(STYLES)}')
        if self.level in ('error', 'warning') and not self.fix:
            raise ValueError(f'{self.check}: {self.level} without a fix')


def exit_status(findings, strict: bool = False) -> int:
    """0 if nothing is wrong, 1 if there is an error (with ``strict``: or a warning)."""
    bad = ('error', 'warning') if strict else ('error', )
    return int(any(finding.level in bad for finding in findings))


def as_json(findings, config: str, strict: bool = False) -> str:
    """``{config, status, counts, findings: [{level, check, text, fix, names}]}``."""
    return json.dumps(dict(
        config=config, status=exit_status(findings, strict),
        counts=dict(Counter(finding.level for finding in findings)),
        findings=[asdict(finding) for finding in findings]), indent=1, ensure_ascii=False)


def show(findings, console) -> None:
    """Print for people: the worst last, where the eye is, in colour on a terminal."""
    from rich.text import Text

    from ..terminal import fitted
    width = console.width if console.is_terminal else None
    for level in ('ok', 'note', 'warning', 'error'):
        for finding in findings:
            if finding.level != level:
                continue
            head = f'{level:<8}{finding.check}: '
            line = Text(fitted(head + finding.text, HANG, width))
            line.stylize(STYLES[level], 0, len(level))
            line.stylize('bold', HANG, len(head))
            if finding.fix:
                fix = fitted(f'{" " * HANG}fix: {finding.fix}', 0, width)
                line.append(f'\n{fix}', 'dim' if level == 'note' else '')
            console.print(line, soft_wrap=True)
    counts = Counter(finding.level for finding in findings)
    console.print(', '.join(f'{counts[level]} {level}' for level in STYLES))


def listed(names, limit: int = 3) -> str:
    """The first few of many, quoted; the name of a single one more takes no more room."""
    names = [str(name) for name in names]
    limit += len(names) == limit + 1
    more = f' and {len(names) - limit} more' if len(names) > limit else ''
    return ', '.join(f"'{name}'" for name in names[:limit]) + more
