"""README's table of methods: every one of them, with its page, its test and its cost."""
import re
from pathlib import Path

import pytest

import mmseg_esl.register  # noqa: F401 - registers every component
from mmseg_esl.conversion.config import Method, methods

ROOT = Path(__file__).parents[2]
ROW = re.compile(r'\| \[(?P<title>[^]]+)\]\((?P<page>[^)]+)\) \| (?P<line>[^|]+) \| '
                 r'(?P<networks>[^|]+) \| (?P<cost>[^|]+) \| \[test\]\((?P<test>[^)]+)\) \|')
ROWS = {Path(m['page']).parent.name: m for m in map(ROW.fullmatch, (
    ROOT / 'README.md').read_text().splitlines()) if m}


def test_every_method_has_a_row():
    assert set(ROWS) == set(methods())


@pytest.mark.parametrize('name', methods())
def test_row(name):
    row, method = ROWS[name], Method(name)
    cfg = method.model.parse_cfg(method.cfg.get('semi_train_cfg'))
    encoder, decoder = (sum(parts) for parts in zip(*method.model.passes(cfg).values()))
    assert row['title'] == method.title
    assert row['networks'].split(', ') == method.networks
    assert row['cost'] == (f'{encoder:g}' if encoder == decoder else f'{encoder:g} ({decoder:g})')
    for key in ('page', 'test'):
        assert (ROOT / row[key]).is_file(), row[key]
