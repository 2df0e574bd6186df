"""``make demo``, with few images and iterations: does everything run to the pictures?"""
import re
import sys

from commands import ROOT, run
from PIL import Image


def test_quick_demo(tmp_path):
    said = run(sys.executable, 'tools/demo/run.py', '--quick', '--out', tmp_path, folder=ROOT)
    for word in ('supervised', 'EMA', 'ESL+ student', 'ESL+ teacher'):
        assert word in said, said
    for method in ('supervised', 'esl_plus'):  # progress is readable where this goes into a file
        assert re.search(rf'seed 0: {method} +20/40 loss \d', said), said
    logs = {path.parents[2].name for path in tmp_path.rglob('scalars.json')}
    assert logs == {'supervised', 'esl_plus'}
    pictures = sorted(tmp_path.rglob('*.png'))
    shown = [path for path in pictures if 'data' not in path.relative_to(tmp_path).parts]
    assert shown, f'no picture beside the drawn data set: {len(pictures)} files'
    for path in shown:
        with Image.open(path) as image:
            assert min(image.size) > 100 and len(image.convert('RGB').getcolors(10 ** 6)) > 5
