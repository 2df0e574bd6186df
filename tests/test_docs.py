"""What pages say is there: links, files, tests, commands and their options; and lists are lists."""
import json
import re
import runpy
import shlex
import sys
from pathlib import Path

import pytest

from mmseg_esl.commands import COMMANDS

ROOT = Path(__file__).parents[1]
PAGES = sorted(path for pattern in ('*.md', 'docs/**/*.md', 'configs/*/README.md')
               for path in ROOT.glob(pattern))
# what a page of this repository calls a file of it: a path below one of its folders
FILE = re.compile(r'(?<![\w/.$])((?:mmseg_esl|configs|tools|dev|tests|docs|requirements|\.ci)'
                  r'/[\w./+-]*\.\w+)(?:::(\w+))?')
LINK = re.compile(r'\]\((?!\w+:)([^)#\s]*)(#[^)\s]+)?\)')
TOOL = re.compile(r'(?:python|bash)? ?tools/([\w/]+\.(?:py|sh))')
PLAIN_LINE = re.compile(r'(?! *(?:[*+-]|\d+\.) |[|#>]|<|```|    )\S')
# by commands that the page names
WRITTEN = ('docs/pictures/', 'docs/performance/cuda.json', 'mmseg_esl/.mim')


def name(path) -> str:
    return path.relative_to(ROOT).as_posix()


def prose(text: str) -> str:
    """Without blocks of code."""
    return re.sub(r'^ *```.*?^ *```$', '', text, flags=re.M | re.S)


def each(pages=PAGES):
    return pytest.mark.parametrize('page', pages, ids=name)


def anchors(path) -> set:
    """What GitHub calls the headings of a page."""
    heads = re.findall(r'^#+ (.+)$', prose(path.read_text(encoding='utf-8')), re.M)
    plain = [re.sub(r'\[([^]]*)\]\([^)]*\)', r'\1', head).lower() for head in heads]
    return {'#' + re.sub(r'[^\w -]', '', head).replace(' ', '-') for head in plain}


def test_there_are_pages():
    assert {'README.md', 'docs/configs.md', 'configs/esl/README.md'} <= set(map(name, PAGES))
    assert len(PAGES) > 40
    assert len((ROOT / 'README.md').read_text(encoding='utf-8').splitlines()) <= 100


@each()
def test_links(page):
    for target, anchor in LINK.findall(prose(page.read_text(encoding='utf-8'))):
        path = (page.parent / target).resolve() if target else page
        assert path.exists() and path.is_relative_to(ROOT), target
        assert not anchor or anchor in anchors(path), target + anchor


@each()
def test_files_and_tests(page):
    for file, test in FILE.findall(page.read_text(encoding='utf-8')):
        if '...' in file or file.startswith(WRITTEN):
            continue
        path = ROOT / file
        assert path.exists(), file
        assert not test or re.search(rf'^(def|class) {test}\b', path.read_text(), re.M), test


def test_tests_that_reliability_names_are_chosen():
    """Each word of '-k' is in the name of a test of that file, or none would run."""
    text = (ROOT / 'docs/results/reliability.md').read_text(encoding='utf-8')
    chosen = re.findall(r'`(tests/[\w/]+\.py) -k (?:"([^"]+)"|(\w+))`', text)
    for file, several, one in chosen:
        tests = re.findall(r'^def (test_\w+)', (ROOT / file).read_text(encoding='utf-8'), re.M)
        for word in (several or one).split(' or '):
            assert any(word.lower() in test.lower() for test in tests), f'{file}: {word}'
    assert len(chosen) > 40 and len(chosen) == len(re.findall(r'tests/\S+ -k ', text))


@each()
def test_commands(page):
    text = page.read_text(encoding='utf-8')
    for command in re.findall(r'^(?:\w+=\S+ )*mmseg-esl ([a-z]+)|`mmseg-esl ([a-z]+)', text, re.M):
        assert ''.join(command) in COMMANDS, command
    targets = re.findall(r'^([\w-]+):', (ROOT / 'Makefile').read_text(), re.M)
    for line in re.findall(r'(?:^|`)make ((?:[a-z-]*[a-z](?![a-z*-]) ?)+)', text, re.M):
        assert set(line.split()) <= set(targets), line
    for tool in TOOL.findall(text):
        assert (ROOT / 'tools' / tool).is_file(), tool


def test_options():
    """Each option of our commands that a page shows is in some argument parser of ours."""
    sources = [*(ROOT / 'tools').rglob('*.py'), *(ROOT / 'mmseg_esl').rglob('*.py'),
               *(ROOT / 'dev').rglob('*.py'), *(ROOT / 'tests').rglob('*.py')]
    known = {option for path in sources for option in re.findall(
        r"'(--[\w-]+)'", path.read_text(encoding='utf-8'))} | {'--help'}
    shown = {}
    for page in PAGES:
        text = page.read_text(encoding='utf-8').replace('\\\n', ' ')
        for line in re.findall(r'(?:mmseg-esl [a-z]+|tools/[\w/]+\.\w+) [^\n`#]*', text):
            shown.update(dict.fromkeys(re.findall(r'(?<!\S)(--[a-z][\w-]*)', line), line))
    assert len(shown) > 30
    assert not {option: line for option, line in shown.items() if option not in known}


@each()
def test_lists_and_tables_begin_after_a_blank_line(page):
    """Without it GitHub makes a list, and the site a paragraph with asterisks."""
    lines = prose(page.read_text(encoding='utf-8')).splitlines()
    for before, line in zip(lines, lines[1:]):
        if re.match(r'([*+-]|\d+\.) |\|', line):
            assert not PLAIN_LINE.match(before), line


def test_every_page_has_a_place():
    """In the site's navigation; pages of methods and rooms are put there by dev/docs_pages.py."""
    places = set(re.findall(r': ([\w/.-]+\.md)$', (ROOT / 'mkdocs.yml').read_text(), re.M))
    pages = {name(page) for page in PAGES if page.parts[-3] != 'configs'}
    made = {'docs/quickstart.md', 'reference/commands.md'}
    assert places - made == pages


def test_the_notebook_is_one():
    path = ROOT / 'docs/quickstart.ipynb'
    book = json.loads(path.read_text(encoding='utf-8'))
    assert book['nbformat'] == 4 and {c['cell_type'] for c in book['cells']} == {'code', 'markdown'}
    targets = [target for cell in book['cells'] if cell['cell_type'] == 'markdown'
               for target, _ in LINK.findall(''.join(cell['source']))]
    assert len(targets) > 3 and all((path.parent / target).is_file() for target in targets)


def shown_commands() -> list:
    """``(page, tool, arguments)`` of the commands in the pages' blocks of shell."""
    files, found = {command: file for command, (file, _) in COMMANDS.items()}, []
    typed = re.compile(r' *(?:\w+=\S+ )*(?:mmseg-esl (\w+)|python tools/(\w+\.py)) +(.*)')
    for page in PAGES:
        text = page.read_text(encoding='utf-8')
        blocks = re.findall(r'^ *```bash\n(.*?)^ *```$', text, re.M | re.S)
        for line in '\n'.join(blocks).replace('\\\n', ' ').splitlines():
            for part in re.split(r' && |; ', re.sub(r'(^| )#.*', '', line)):
                call = typed.match(part)
                if call and '...' not in part and '$' not in part:
                    file = files[call[1]] if call[1] else call[2]
                    found.append((name(page), file, shlex.split(call[3])))
    return found


def test_commands_are_understood(monkeypatch, capsys, tmp_path):
    """By the parsers of their tools, whose only look at a file is predict's, for the run."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'work_dirs/my_esl').mkdir(parents=True)
    shown = shown_commands()
    assert len({file for _, file, _ in shown}) > 12 and len(shown) > 60
    parsers = {file: runpy.run_path(str(ROOT / 'tools' / file))['parse_args']
               for file in {file for _, file, _ in shown}}
    for page, file, arguments in shown:
        monkeypatch.setattr(sys, 'argv', [f'mmseg-esl {file}', *arguments])
        try:
            parsers[file]()
        except SystemExit as end:
            shown_by = capsys.readouterr().err.splitlines()[-1:]
            assert end.code == 0, f'{page}: {file} {" ".join(arguments)}: {shown_by}'
