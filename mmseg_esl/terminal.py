"""Sentences on a terminal: lines end between words, and a command is not broken."""
from __future__ import annotations

import re
import shutil
import sys
import textwrap

ARGUMENT = r"(?: (?:--?[\w-]+(?: [\w.,-]+)?|'[^']*'|[^\s]*[/.=_][^\s]*))"
# what is typed again as it stands: a line that the terminal itself breaks is copied whole
COMMAND = re.compile(
    rf'(?:(?:mmseg-esl|python -m mmseg_esl) [a-z]+|python \S+\.py){ARGUMENT}*')
GLUE = '\N{NO-BREAK SPACE}'


def columns(stream=None) -> int | None:
    """Width of the terminal that a stream (None: stdout) leads to; None: it leads to none."""
    stream = sys.stdout if stream is None else stream
    return shutil.get_terminal_size().columns if stream.isatty() else None


def fitted(text: str, hang: int = 0, width: int | None = None) -> str:
    """A text whose long lines end between words.

    Args:
        text: one line or several; rows of tables ('|', '+') stay as they are.
        hang: blanks by which a line goes on, beside those it begins with.
        width: see columns; None: the text stays as it is, for a file.
    """
    if width is None:
        return text
    return '\n'.join(line if len(line) <= width or line.lstrip()[:1] in ('|', '+')
                     else _wrapped(line, hang, width) for line in text.split('\n'))


def say(text: str, hang: int = 0, file=None) -> None:
    """Print a text, fitted to the terminal that the file (None: stdout) is, if it is one."""
    print(fitted(text, hang, columns(file)), file=file, flush=True)


def _wrapped(line: str, hang: int, width: int) -> str:
    body = line.lstrip(' ')
    begin = ' ' * (len(line) - len(body))
    words = COMMAND.sub(lambda found: found[0].replace(' ', GLUE), body)
    lines = textwrap.wrap(
        words, max(width, 20), initial_indent=begin, subsequent_indent=begin + ' ' * hang,
        break_long_words=False, break_on_hyphens=False)
    return '\n'.join(lines).replace(GLUE, ' ')
