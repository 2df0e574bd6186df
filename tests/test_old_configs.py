"""Paths under configs/esl/ mean what they meant in release 0.1.0.

recorded/configs_0.1.0.json holds what they resolved to there (commit 219eaf7): the sections that
train and score, and the hooks by type; each config as a change of another one.
"""
import json
from functools import lru_cache
from pathlib import Path

import pytest
from config_files import FOLDER, loaded
from mmengine.config import Config

RECORD = json.loads(Path(__file__).with_name('recorded').joinpath('configs_0.1.0.json').read_text())
SECTIONS = ('model', 'train_dataloader', 'val_dataloader', 'test_dataloader', 'optim_wrapper',
            'param_scheduler', 'train_cfg', 'val_cfg', 'test_cfg', 'val_evaluator',
            'test_evaluator')
NAMES = ('esl', 'supervised')  # what configs that inherit _base_/ use


def flat(value, name='') -> dict:
    """Nested dicts and lists as {'a.b.0': value}."""
    if isinstance(value, (dict, list, tuple)) and value:
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return {k: v for key, inner in items for k, v in flat(inner, f'{name}.{key}').items()}
    return {name[1:]: list(value) if isinstance(value, tuple) else value}


def values(name: str) -> dict:
    cfg = loaded(FOLDER / name)._cfg_dict.to_dict()
    sections = (*SECTIONS, *NAMES) if name.startswith('_base_') else SECTIONS
    out = flat({key: cfg[key] for key in sections if key in cfg})
    named = (cfg.get('default_hooks') or {}).values()
    for hook in [*named, *(cfg.get('custom_hooks') or ())]:
        if 'type' in hook:
            out.update({f'hooks.{hook["type"]}.{key}': v for key, v in flat(hook).items()})
    return out


@lru_cache(maxsize=None)
def recorded(name: str) -> dict:
    entry = RECORD[name]
    base = recorded(entry['like']) if entry['like'] else {}
    return {**{k: v for k, v in base.items() if k not in entry['without']}, **entry['set']}


def expected(name: str) -> dict:
    """The recorded values under the names of today."""
    out = dict(recorded(name))
    if 'val_cfg.type' in out:
        out['val_cfg.type'] = 'SemiValLoop'
    for key in ('model', 'esl'):
        if f'{key}.semi_train_cfg.mass' in out:
            out[f'{key}.semi_train_cfg.ema_momentum'] = 0.99
    if not name.startswith('_base_'):
        assert out.pop('hooks.TeacherEMAHook.momentum') == 0.99
        del out['hooks.TeacherEMAHook.type']
        out['hooks.StepHook.type'] = 'StepHook'
    return out


def changed(then: dict, now: dict) -> dict:
    """key -> (old, new) of what is gone or another."""
    return {key: (value, now.get(key, 'gone')) for key, value in then.items()
            if key not in now or now[key] != value}


# What came beside it and trains nothing: the hook that names the lists, and a best checkpoint.
MORE = {'hooks.ProtocolHook.type', 'hooks.SegVisualizationHook.type',
        'hooks.SemiCheckpointHook.save_best', 'hooks.SemiCheckpointHook.max_keep_ckpts'}
SUPERVISED = [name for name in RECORD if name.startswith('sup_') or name == 'demo/supervised.py']


@pytest.mark.parametrize('name', sorted(set(RECORD) - set(SUPERVISED)))
def test_path_resolves_to_the_same_values(name):
    now, then = values(name), expected(name)
    assert changed(then, now) == {}
    may = MORE if name.startswith(('_base_', 'demo', 'esl_lite0')) else set()
    assert now.keys() - then.keys() <= may


@pytest.mark.parametrize('name', SUPERVISED)
def test_baseline_is_another_method_on_the_same_data(name):
    """Data, batch, network, optimiser, schedule and scores as they were; the wrapper is not."""
    now, then = values(name), expected(name)
    own = {key for key in {*now, *then}
           if key.startswith('model.') and not key.startswith('model.segmentor.')}
    own.update(key for key in then if key.startswith('hooks.PartInitHook.'))
    then, rest = ({k: v for k, v in some.items() if k not in own} for some in (then, now))
    assert changed(then, rest) == {}
    assert rest.keys() - then.keys() <= (MORE if 'demo' in name else set())
    assert now['model.type'] == 'Supervised' and now['model.semi_test_cfg.predict_on'] == 'student'
    assert now['hooks.SemiCheckpointHook.save_best'] == 'student/mIoU'


def test_there_is_a_record_of_each_path():
    assert len(RECORD) == 69
    assert not [name for name in RECORD if not (FOLDER / name).is_file()]


def test_lists_of_hooks_may_still_be_updated_in_place(tmp_path):
    """As configs did that inherit _base_/ files."""
    (tmp_path / 'mine.py').write_text(f"""
_base_ = '{FOLDER}/_base_/cityscapes.py'
esl_hooks = _base_.esl_hooks
esl_hooks[1].update(begin=400)
custom_hooks = _base_.custom_hooks
custom_hooks[0].update(momentum=0.9)
model = _base_.supervised.model
""")
    cfg = Config.fromfile(str(tmp_path / 'mine.py'))
    assert [hook.type for hook in cfg.custom_hooks] == [
        'TeacherEMAHook', 'PartInitHook', 'DiagnosticsHook', 'RunStateHook', 'FiniteGuardHook']
    assert cfg.custom_hooks[0].momentum == 0.9 and cfg.esl_hooks[1].begin == 400
    assert (cfg.model.type, cfg.model.semi_train_cfg.variant) == ('ESL', 'sup')
