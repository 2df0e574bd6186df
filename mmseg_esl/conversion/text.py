"""Python text of config values, as one would write them by hand."""
from __future__ import annotations

import math
import textwrap
from keyword import iskeyword

WIDTH = 100


class Code(str):
    """Python that is written as it stands, such as ``_base_.model``."""


def literal(value, indent: int = 0, room: int = 0) -> str:
    """Source of a config value: on one line if it fits, one entry a line otherwise.

    Args:
        value: dicts, lists, tuples, scalars and :class:`Code`, nested.
        indent: blanks before the line on which it begins.
        room: characters already on that line, behind the blanks, and to come behind the value.
    """
    flat = _flat(value)
    if indent + room + len(flat) <= WIDTH or not isinstance(value, (dict, list, tuple)):
        return flat
    opening, entries, closing = _parts(value)
    pad = ' ' * (indent + 4)
    lines = [f'{pad}{name}{literal(entry, indent + 4, len(name) + 2)}' for name, entry in entries]
    return f'{opening}\n' + ',\n'.join(lines) + closing


def assignment(name: str, value) -> str:
    """``name = value``."""
    return f'{name} = {literal(value, 0, len(name) + 3)}'


def one_a_line(name: str, values: list) -> str:
    """``name = [...]`` with one entry a line, however short."""
    lines = [f'    {literal(value, 4, 1)},' for value in values]
    return '\n'.join([f'{name} = [', *lines, ']'])


def comment(text: str) -> str:
    """Lines that begin with #."""
    return textwrap.fill(text, WIDTH, initial_indent='# ', subsequent_indent='# ',
                         break_long_words=False, break_on_hyphens=False)


def heading(text: str) -> str:
    """Lines that begin with #, as they stand."""
    return '\n'.join(f'# {line}' for line in text.splitlines())


def _flat(value) -> str:
    if isinstance(value, Code) or not isinstance(value, (dict, list, tuple)):
        if isinstance(value, float) and not math.isfinite(value):
            return f"float('{value}')"
        return value if isinstance(value, Code) else repr(value)
    opening, entries, closing = _parts(value)
    return opening + ', '.join(name + _flat(entry) for name, entry in entries) + closing


def _parts(value):
    """Opening bracket, (prefix, entry) pairs and closing bracket of a container."""
    if isinstance(value, dict):
        if all(isinstance(key, str) and key.isidentifier() and not iskeyword(key)
               for key in value):
            return 'dict(', [(f'{key}=', entry) for key, entry in value.items()], ')'
        return '{', [(f'{key!r}: ', entry) for key, entry in value.items()], '}'
    opening, closing = '[]' if isinstance(value, list) else '()'
    if isinstance(value, tuple) and len(value) == 1:
        closing = ',)'
    return opening, [('', entry) for entry in value], closing
