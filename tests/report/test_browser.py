"""The page in a real browser: nothing is wrong, nothing is fetched, nothing sticks out."""
import html
import json
import re
import shutil
import subprocess

import pytest
import workdirs

from mmseg_esl.report import make_page

CHROMIUM = next(filter(None, map(shutil.which, (
    'chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable'))), None)
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason='no Chromium found: apt install chromium')
OPTIONS = ('--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
           '--disable-background-networking', '--disable-component-update', '--disable-sync',
           '--host-resolver-rules=MAP * ~NOTFOUND', '--enable-logging=stderr', '--v=0')

# A window has a least width, a frame has not. The frame is of this document's origin, so a script
# around it can look inside: the page itself has none.
AROUND = """<!DOCTYPE html><meta charset="utf-8"><link rel="icon" href="data:,"><body>
<iframe width="{width}" height="900" style="border: 0" srcdoc="{page}"></iframe>
<pre id="found"></pre><script>
window.onload = () => {{
  const page = document.querySelector('iframe').contentDocument, root = page.documentElement;
  const all = kind => [...page.querySelectorAll(kind)];
  document.getElementById('found').textContent = JSON.stringify({{
    inner: root.clientWidth, scroll: root.scrollWidth,
    columns: new Set(all('.pictures figure').map(figure => figure.offsetLeft)).size,
    beside: all('main')[0] ? all('main')[0].offsetLeft > 100 : null,
    images: all('img').map(image => image.naturalWidth),
    plots: all('svg').map(plot => [plot.clientWidth, plot.clientHeight]),
    tables: all('table').map(table => table.id),
    details: all('details').map(details => details.open),
    fetched: performance.getEntriesByType('resource').concat(
      page.defaultView.performance.getEntriesByType('resource'))
      .map(entry => entry.name).filter(name => /^https?:/.test(name))}});
}};
</script>"""


def look(page: str, width: int, folder) -> tuple[dict, list]:
    """What the script found, and the lines of the browser's console."""
    path = folder / 'around.html'
    path.write_text(AROUND.format(width=width, page=html.escape(page, quote=True)),
                    encoding='utf-8')
    done = subprocess.run(
        [CHROMIUM, *OPTIONS, f'--user-data-dir={folder / "profile"}', '--window-size=1500,1000',
         '--dump-dom', path.as_uri()], text=True, timeout=60, capture_output=True)
    found = re.search('<pre id="found">(.+?)</pre>', done.stdout, re.DOTALL)
    assert found, f'{done.stdout[-500:]}\n{done.stderr[-2000:]}'
    return (json.loads(html.unescape(found[1])),
            [line for line in done.stderr.splitlines() if 'CONSOLE' in line])


@pytest.fixture(scope='module')
def page(tmp_path_factory):
    return make_page(workdirs.full_folder(tmp_path_factory.mktemp('runs') / ('a-long-name' * 9)))


@pytest.mark.parametrize('width', [400, 1400, 2500])
def test_page(page, width, tmp_path):
    found, console = look(page, width, tmp_path)
    assert not console
    assert found['fetched'] == [] and found['details'] == [False]
    assert found['inner'] <= width
    assert found['scroll'] == found['inner'], 'the page scrolls sideways'
    assert found['images'] == [900] * 4
    assert found['columns'] == {400: 1, 1400: 2, 2500: 4}[width]  # wide screens are used
    assert found['beside'] == (width > 1000)  # of the contents
    assert found['tables'] == ['scores', 'classes', 'audit', 'parts']
    assert len(found['plots']) == 1 + 6 + 3
    assert all(100 < wide <= width and 50 < high < 400 for wide, high in found['plots'])


def test_the_look_sees_faults(tmp_path):
    """A console message, an image that is none, and a page that is too wide."""
    found, console = look('<html><body><div style="width: 900px">wide</div><img src="data:,x">'
                          '<script>console.error("oh")</script>', 400, tmp_path)
    assert found['scroll'] > found['inner'] and found['images'] == [0]
    assert any('oh' in line for line in console)
