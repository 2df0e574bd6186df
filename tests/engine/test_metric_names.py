"""Names of figures: every logging backend can hold them, side by side."""
from __future__ import annotations

import json
import os
import re

import pytest
import tiny
from mmengine.config import Config
from mmengine.hooks import Hook

from mmseg_esl.engine.metric_names import class_names

ODD = ('traffic light', 'door; "double"', 'Straße/路', '../x', 'sky+', 'sky?', 'Sky_', '',
       '字' * 300)


def all_names(folder) -> set:
    path = next(folder.glob('*/vis_data/scalars.json'))
    return {key for line in path.read_text().splitlines() for key in json.loads(line)}


def collisions(names) -> list:
    """Names that would be the folder of another one, or its file, in a file system."""
    names = {name.lower(): name for name in names}
    return [name for name in names for end in range(len(name))
            if name[end] == '/' and name[:end] in names]


class AddConfig(Hook):
    """As tools/train.py does, by a Runner from a config; the backend for MLflow relies on it."""

    def before_run(self, runner):
        runner.visualizer.add_config(Config(dict(work_dir=runner.work_dir)))


@pytest.fixture(scope='module')
def logged(tmp_path_factory):
    """A run with each class's diagnostics, audit and IoU, its classes named oddly."""
    root = tmp_path_factory.mktemp('names')
    tiny.write_data(root)
    backends = [dict(type='LocalVisBackend')]
    os.environ.update(MLFLOW_ALLOW_FILE_STORE='true', MLFLOW_DISABLE_TELEMETRY='true')
    try:
        import mlflow  # noqa: F401
        backends.append(dict(type='MLflowVisBackend', save_dir=str(root / 'mlruns')))
    except ImportError:
        pass
    classes = dict(classes=ODD[:3], palette=tiny.PALETTE)
    train, val = tiny.loader_cfg(root), tiny.val_loader_cfg(root)
    for dataset in (*(train['dataset'][k] for k in ('labeled', 'unlabeled')), val['dataset']):
        dataset['metainfo'] = classes
    tiny.run(root, root, [tiny.EMA, tiny.PARTS, dict(type='DiagnosticsHook'),
                          dict(type='PseudoLabelAuditHook', interval=2), AddConfig()], val=True,
             train_dataloader=train, val_dataloader=val, visualizer=dict(
                 type='SegLocalVisualizer', vis_backends=backends, name=root.name))
    return root


def test_every_name_is_legal_and_none_is_the_folder_of_another(logged):
    names = all_names(logged / 'work')
    for figure in ('class/anchors/{}', 'class/parts_used/{}', 'audit/class/true_share/{}',
                   'teacher/IoU.{}'):
        for name in ('traffic_light', 'door___double_', 'Straße_路'):
            assert figure.format(name) in names
    assert {'dominant/3_or_more', 'audit/ece'} <= names
    # what mlflow.utils.validation and tensorboardX._clean_tag accept, and no path of its own
    assert [name for name in names if not re.fullmatch(r'[\w.-]+(/[\w.-]+)*', name)] == []
    assert collisions(names) == []


def test_a_real_mlflow_store_holds_all_of_them(logged):
    """mlflow's own check of names, and its own files."""
    pytest.importorskip('mlflow')
    folder, = (logged / 'mlruns').glob('*/*/metrics')
    held = {str(path.relative_to(folder)) for path in folder.rglob('*') if path.is_file()}
    wanted = all_names(logged / 'work') - {'step'}
    assert wanted <= held and len(wanted) > 50  # mlflow holds the step, too


def test_classes_stay_apart():
    names = class_names(ODD)
    assert names[0] == 'traffic_light' and len({name.lower() for name in names}) == len(ODD)
    assert all(re.fullmatch(r'[\w-][\w.-]*', name) for name in names)
    assert max(len(name.encode()) for name in names) < 255
    assert class_names(['road', 'Sky', 'a.b', 'x-y']) == ['road', 'Sky', 'a.b', 'x-y']
    assert class_names(range(3)) == ['0', '1', '2']
