"""Which files the documentation site shows: a hook of MkDocs, named in mkdocs.yml.

Pages keep their paths in the repository, so that one set of relative links serves both. Code and
configs that a page links to become pages too; those of the Python interface are made of docstrings.
"""
from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from mkdocs.structure.files import File, Files, InclusionLevel

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from mmseg_esl.commands import COMMANDS

PAGES = ('*.md', 'docs/**/*.md', 'configs/*/README.md')
OTHERS = ('docs/**/*.png', 'docs/**/*.csv', 'docs/**/*.json', 'docs/*.css')
# rooms whose classes and functions are for users: configs name them, methods are made of them
ROOMS = ('functional', 'models', 'semi', 'methods', 'datasets', 'engine', 'looks', 'predict',
         'results', 'splits', 'storage')
# a relative link to something that is no page, such as [test](tests/methods/test_cct.py)
LINK = re.compile(r'\]\((?!\w+:|#)([^)#\s]+)')
SHOWN = {'.py': 'python', '.sh': 'bash', '.yml': 'yaml', '.txt': 'text', '': 'text'}


def on_config(config):
    """Put one page a method and one a room into the navigation."""
    for entry in config.nav:
        name, pages = next(iter(entry.items()))
        if name == 'Methods':
            entry[name] = [path.relative_to(ROOT).as_posix()
                           for path in sorted(ROOT.glob('configs/*/README.md'))]
        elif name == 'Reference':
            pages[1]['Python'] = [f'reference/{room}.md' for room in ('api', *ROOMS)]
    return config


def on_files(files, config):
    """Replace docs/ by what is a page, from wherever it lies."""
    found = {path.relative_to(ROOT).as_posix(): path
             for pattern in (*PAGES, *OTHERS) for path in sorted(ROOT.glob(pattern))}
    kept = [File(name, str(ROOT), config.site_dir, config.use_directory_urls) for name in found]
    made = {'docs/quickstart.md': notebook_page(ROOT / 'docs/quickstart.ipynb'),
            'reference/commands.md': commands_page(),
            'reference/api.md': '# mmseg_esl\n\n::: mmseg_esl.api\n',
            **{f'reference/{room}.md': room_page(room) for room in ROOMS}}
    theirs = [file for file in files if file.src_dir != config.docs_dir]  # the theme's
    return Files([
        *theirs, *kept,
        *(File.generated(config, name, content=text) for name, text in made.items()),
        *(File.generated(config, f'{name}.md', content=code_page(name),
                         inclusion=InclusionLevel.NOT_IN_NAV) for name in linked(found))])


def on_page_markdown(markdown, page, **_):
    """Lead links to code, notebooks and folders to the page that shows them."""
    folder = (ROOT / page.file.src_uri).parent

    def page_of(link: re.Match) -> str:
        target = folder / link[1]
        if is_code(target):
            return f'{link[0]}.md'
        return f'{link[0]}/README.md' if target.is_dir() else link[0].replace('.ipynb', '.md')

    return LINK.sub(page_of, markdown)


def is_code(path: Path) -> bool:
    return path.suffix in SHOWN and path.is_file()


def linked(pages) -> list[str]:
    """Files of the repository that pages link to and that are no pages."""
    found = {(path.parent / target).resolve() for path in pages.values() if path.suffix == '.md'
             for target in LINK.findall(path.read_text(encoding='utf-8'))}
    return sorted(path.relative_to(ROOT).as_posix() for path in found if is_code(path))


def code_page(name: str) -> str:
    path = ROOT / name
    return (f'---\nsearch: {{exclude: true}}\n---\n# {name}\n\n'
            f'~~~~{SHOWN[path.suffix]}\n{path.read_text(encoding="utf-8")}\n~~~~\n')


def commands_page() -> str:
    rows = [f'| `mmseg-esl {name}` | {line} |' for name, (_, line) in COMMANDS.items()]
    return '\n'.join(['# Commands', '', '`--help` after a command says more.', '',
                      '| command | does |', '|---|---|', *rows, ''])


def room_page(room: str) -> str:
    """Every module of a room, by its docstrings."""
    names = sorted(path.relative_to(ROOT).with_suffix('').as_posix().replace('/', '.')
                   for path in (ROOT / 'mmseg_esl' / room).rglob('*.py')
                   if not path.name.startswith('_'))
    return '\n'.join([f'# mmseg_esl.{room}\n', *(f'::: {name}\n' for name in names)])


def notebook_page(path: Path) -> str:
    """Cells as Markdown, what they printed and painted below them."""
    parts = []
    for cell in json.loads(path.read_text(encoding='utf-8'))['cells']:
        text = ''.join(cell['source'])
        parts.append(text if cell['cell_type'] == 'markdown' else f'```python\n{text}\n```')
        for output in cell.get('outputs', ()):
            data = output.get('data', {})
            if 'image/png' in data:
                parts.append('![](data:image/png;base64,'
                             f'{"".join(data["image/png"]).replace(chr(10), "")})')
            else:
                said = ''.join(output.get('text', data.get('text/plain', ())))
                parts.append(f'```text\n{said.rstrip()}\n```')
    return '\n\n'.join(parts) + '\n'
