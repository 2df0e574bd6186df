"""Work folders as training leaves them, written by hand; and what a page says, parsed."""
from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import tiny
from PIL import Image

from mmseg_esl.engine.describe import describe

CLASSES = ['sky', '<img src=x onerror="alert(1)">', 'a & "b" $x_', 'road\'s edge']
FIRST, SECOND = '20260101_000000', '20260102_000000'
VOID = {'meta', 'link', 'img', 'br', 'hr', 'input'}
LOG = """2026/01/01 00:00:00 - mmengine - INFO -
------------------------------------------------------------
System environment:
    sys.platform: linux
    Python: 3.11.7 (main) [GCC 12.2.0]
    CUDA available: True
    GPU 0: Some GPU <with> 80GB
    PyTorch: 2.13.0
    PyTorch compiling details: PyTorch built with:
  - GCC 13.3
    MMEngine: 0.10.7

Runtime environment:
    seed: 5
    GPU number: 1
------------------------------------------------------------
2026/01/01 00:00:00 - mmengine - INFO - Config:
    Python: not an environment any more
"""


def config(**changes) -> dict:
    return dict(dict(
        model=dict(
            type='ESL', part_memory=dict(num_parts=3), semi_train_cfg=dict(mass=0.9),
            segmentor=dict(
                type='EncoderDecoder', backbone=dict(type='ResNetV1c', depth=50),
                decode_head=dict(type='DepthwiseSeparableASPPHead',
                                 loss_decode=dict(type='CrossEntropyLoss')))),
        train_dataloader=dict(
            batch_sampler=dict(num_labeled=2, num_unlabeled=3),
            dataset=dict(labeled=dict(pipeline=[dict(type='RandomCrop', crop_size=(33, 65))]))),
        val_dataloader=dict(dataset=dict(type='Sample<Dataset>')),
        train_cfg=dict(max_iters=100), randomness=dict(seed=5),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01, momentum=0.9)),
        custom_hooks=[dict(type='TeacherEMAHook', momentum=0.996)]), **changes)


def method() -> dict:
    """What ProtocolHook writes of a run of that config, made by the real class."""
    return describe(tiny.esl(parts=3, queue=256, mass=0.9, num_negatives=255, ema_momentum=0.996))


def training(step, shift=0.0) -> dict:
    one, two = 0.5 + step / 400, 0.2
    return {'lr': 0.01 / step, 'time': 0.1, 'loss': 3 / step + shift, 'loss_sce': 1 / step + shift,
            'dominant/1': one, 'dominant/2': two, 'dominant/3+': 1 - one - two,
            'confidence': step / 101, 'iter': step, 'step': step}


def validation(step, teacher, student) -> dict:
    out = {}
    for name, value in (('teacher', teacher), ('student', student)):
        out[f'{name}/mIoU'] = value
        out.update({f'{name}/IoU.{label}': value + index / 7
                    for index, label in enumerate(CLASSES)})
    return dict(out, time=0.1, step=step)


def audit(step, parts=2, **changes) -> dict:
    def shares(base):
        return [base + 0.031 * index for index in range(3)] + [None]

    keys = ('precision', 'recall', 'coverage', 'ece', 'hard_accuracy', 'soft_hit_rate',
            'hard_share', 'soft_share', 'true_share')
    return dict(dict(
        schema=1, iter=step, images=7, pixels=700, classes=CLASSES, num_parts=parts, mass=0.95,
        confidence=0.95, hard_accuracy=0.5 + step / 1000, soft_hit_rate=0.6 + step / 1000, ece=0.1,
        dominant={'1': 0.5, '2': 0.3, '3+': 0.2},
        per_class={key: shares(0.1 + 0.07 * i) for i, key in enumerate(keys)},
        parts=parts and dict(
            usage=[[0.25, 0.75], [1.0, 0.0], [0.5, 0.5], [None, None]], entropy=shares(0.4),
            purity=shares(0.8), part_purity=[[0.11, 0.22], [0.33, None], [0.5, 0.5],
                                             [None, None]])), **changes)


def write_start(folder, rows, cfg, name=FIRST, log=LOG, **info) -> Path:
    start = Path(folder) / name
    (start / 'vis_data').mkdir(parents=True)
    (start / 'vis_data/config.py').write_text(
        ''.join(f'{key} = {value!r}\n' for key, value in cfg.items()))
    if rows is not None:
        (start / 'vis_data/scalars.json').write_text(
            ''.join(f'{json.dumps(row)}\n' for row in rows))
    (start / f'{name}.log').write_text(log)
    if info:
        (start / 'run.json').write_text(json.dumps(info))
    return start


def write_audits(folder, *found) -> None:
    (Path(folder) / 'audit').mkdir(exist_ok=True)
    for one in found:
        path = Path(folder) / f'audit/iter_{one["iter"]}.json'
        path.write_text(json.dumps(one))


def full_folder(folder) -> Path:
    """A run of two starts: the second goes on from iteration 50, the first went to 70."""
    info = dict(method=method(), commit='abc123', seed=5, world_size=1, mmseg_esl='9.8',
                versions={'mmcv': '2.1'})
    write_start(folder, [
        *(training(step) for step in range(10, 60, 10)), validation(50, 40.126, 41.0),
        training(60, shift=9.0), validation(60, 99.0, 98.0), training(70, shift=9.0)],
        config(), **info, command="train.py 'a <b>.py'")
    start = write_start(folder, [
        *(training(step) for step in range(60, 90, 10)), validation(80, 52.347, 50.5),
        training(90), training(100), validation(100, 51.218, 51.129)],
        config(resume=True), SECOND, **info, command='train.py --resume')
    (start / 'protocol.json').write_text(json.dumps(dict(
        protocol='own-1/2', published=False, description='own lists', labeled=dict(count=11),
        unlabeled=dict(count=222))))
    write_audits(folder, audit(9), audit(100), audit(80, None, ece=None))
    pictures = Path(folder) / 'pictures'
    pictures.mkdir()
    for index, name in enumerate(('image_10', 'image_2', 'contact_sheet', 'a"><script>')):
        Image.fromarray(np.full((6 + index, 900, 3), 60, np.uint8)).save(pictures / f'{name}.png')
    return Path(folder)


class Page(HTMLParser):
    """Raises on tags that do not match; gathers tables, texts, attributes and captions."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.tables, self.texts = [], [], {}, []
        self._table = None
        self.feed(text)
        self.close()
        assert not self.open, f'never closed: {self.open}'

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append((tag, attrs))
        if tag not in VOID:
            self.open.append(tag)
        if tag == 'table':
            self._table = self.tables[attrs.get('id')] = []
        elif tag == 'tr':
            self._table.append([])
        elif tag in ('td', 'th'):
            self._table[-1].append('')

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, f'</{tag}> closes {self.open[-3:]}'
        self.open.pop()
        if tag == 'table':
            self._table = None

    def handle_data(self, data):
        if self.open and self.open[-1] != 'style':
            self.texts.append(data)
        if self._table and self._table[-1] and {'td', 'th'} & set(self.open):
            self._table[-1][-1] += data

    @property
    def text(self) -> str:
        return ' '.join(' '.join(self.texts).split())

    def pictures(self) -> list[str]:
        return [attrs['alt'] for tag, attrs in self.tags if tag == 'img']
