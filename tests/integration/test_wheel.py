"""The wheel, installed where there is no checkout: tools, configs and names work from there."""
import email
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
from project import ROOT, SUPERVISED, write_images

OURS = 'mmseg_esl::esl/esl_r50_cityscapes_1-4.py'


def run(*command, folder, path=''):
    """Run a command that sees ``path``, and neither the checkout nor a user's own packages."""
    env = {**os.environ, 'PYTHONPATH': str(path), 'OMP_NUM_THREADS': '1', 'PYTHONNOUSERSITE': '1'}
    done = subprocess.run([str(part) for part in command], cwd=folder, env=env, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.returncode == 0, f'{command}:\n{done.stdout[-6000:]}'
    return done.stdout


@pytest.fixture(scope='module')
def wheel(tmp_path_factory):
    """Built from the sdist, so that both are complete; a copy of the sources stays clean."""
    folder = tmp_path_factory.mktemp('build')
    source = folder / 'source'
    unwanted = shutil.ignore_patterns('.*', 'tests', 'work_dirs', 'build', '*.egg-info',
                                      '__pycache__')
    shutil.copytree(ROOT, source, ignore=lambda where, names: {
        *unwanted(where, names), *(['data'] if Path(where) == ROOT else [])})
    run(sys.executable, 'setup.py', '-q', 'sdist', '--dist-dir', folder, folder=source)
    run(sys.executable, '-m', 'pip', 'wheel', '-q', '--no-deps', '--no-build-isolation',
        next(folder.glob('*.tar.gz')), '-w', folder, folder=folder)
    return next(folder.glob('*.whl'))


@pytest.fixture(scope='module')
def python(wheel, tmp_path_factory):
    """The interpreter of a fresh environment: this one's packages, but the wheel's mmseg_esl."""
    folder = tmp_path_factory.mktemp('fresh')
    run(sys.executable, '-m', 'venv', '--without-pip', folder / 'venv', folder=folder)
    ours = folder / 'venv/bin/python'
    site = Path(run(ours, '-c', 'import sysconfig; print(sysconfig.get_path("purelib"))',
                    folder=folder).strip())
    run(sys.executable, '-m', 'pip', 'install', '-q', '--no-deps', '--no-index', '--target', site,
        wheel, folder=folder)
    # a plain line adds a folder behind the own ones, and runs no .pth of it: so this environment's
    # editable mmseg_esl is not there
    (site / 'shared.pth').write_text(sysconfig.get_path('purelib') + '\n')
    return ours


@pytest.fixture(scope='module')
def installed(python, tmp_path_factory):
    """The folder of the installed package, which is not the checkout."""
    code = 'import mmseg_esl; print(mmseg_esl.__file__)'
    package = Path(run(python, '-c', code, folder=tmp_path_factory.mktemp('else')).strip()).parent
    assert ROOT not in package.parents and python.parents[1] in package.parents
    return package


def test_wheel_is_complete(wheel):
    with zipfile.ZipFile(wheel) as content:
        names = content.namelist()
        info = next(name for name in names if name.endswith('.dist-info/METADATA'))
        metadata = email.message_from_bytes(content.read(info))
    inside = {name.split('/.mim/')[1] for name in names if '/.mim/' in name}
    wanted = {path.relative_to(ROOT).as_posix() for folder in ('configs', 'tools')
              for path in (ROOT / folder).rglob('*') if path.is_file()
              and path.suffix != '.pyc' and 'drills' not in path.parts}
    assert inside == wanted | {'model-index.yml'}
    assert {'mmseg_esl/report/page.html', 'mmseg_esl/splits/published.csv'} <= set(names)
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / 'mmseg_esl').rglob('*.py')}
    assert modules == {name for name in names if name.startswith('mmseg_esl/')
                       and name.endswith('.py') and '/.mim/' not in name}
    assert metadata['Description-Content-Type'] == 'text/markdown'
    description = metadata.get_payload(decode=True).decode()
    assert description.strip() == (ROOT / 'README.md').read_text().strip()
    extras = {extra: set() for extra in metadata.get_all('Provides-Extra')}
    for line in metadata.get_all('Requires-Dist'):
        package, _, extra = line.partition('; extra == ')
        if extra:
            extras[extra.strip('\'"')].add(package)
    assert extras['all'] == set().union(*(
        packages for extra, packages in extras.items() if extra not in ('all', 'dev')))
    page = (ROOT / 'docs/install.md').read_text()
    assert all(f'| `{extra}`' in page for extra in extras if extra != 'all')


def test_building_leaves_the_sources_alone(wheel):
    assert not (ROOT / 'mmseg_esl/.mim').exists()
    assert not (wheel.parent / 'source/mmseg_esl/.mim').exists()


def test_names_lead_into_the_wheel(python, installed, tmp_path):
    (tmp_path / 'leaf.py').write_text(f"_base_ = '{OURS}'\ntrain_cfg = dict(max_iters=7)\n")
    code = f"""
from mmseg_esl import stack
stack.install()
from mmengine.config import Config
from mmengine.hub import get_config
leaf, named = Config.fromfile('leaf.py'), get_config('{OURS}')
assert leaf.model.type == named.model.type == 'ESL'
print(leaf.train_cfg.max_iters, Config._get_cfg_path('{OURS}', '')[0])
"""
    number, path = run(python, '-c', code, folder=tmp_path).split()[-2:]
    assert number == '7' and Path(path) == installed / '.mim/configs/esl' / OURS.split('/')[-1]


def test_convert_and_train(python, installed, tmp_path):
    """The user's way: a supervised config, one command, training."""
    write_images(tmp_path / 'data')
    (tmp_path / 'supervised.py').write_text(SUPERVISED.replace('DATA', 'data') + TRAINING)
    tools = installed / '.mim/tools'
    said = run(python, tools / 'convert_config.py', 'supervised.py', '--unlabeled',
               'data/images/unlabeled', '--out', 'esl.py', '--method', 'esl', folder=tmp_path)
    assert 'wrote esl.py' in said
    assert "'mmseg_esl::esl/method.py'" in (tmp_path / 'esl.py').read_text()
    said = run(python, tools / 'train.py', 'esl.py', '--cfg-options',
               'model.part_memory.num_parts=2', folder=tmp_path)
    assert 'teacher/mIoU' in said and 'loss_ctr' in said
    assert 'Failed to search registry' not in said
    assert (tmp_path / 'work_dirs/esl/iter_2.pth').is_file()
    assert [path.name for path in (tmp_path / 'work_dirs/esl').glob('best_teacher_mIoU_*')]


TRAINING = """
train_dataloader = dict(
    batch_size=2, num_workers=0, sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='BaseSegDataset', data_root=data_root, metainfo=metainfo, ann_file='labeled.txt',
        img_suffix='.png', data_prefix=dict(img_path='images/train', seg_map_path='masks/train'),
        pipeline=[
            dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'),
            dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.75),
            dict(type='RandomFlip', prob=0.5), dict(type='PhotoMetricDistortion'),
            dict(type='PackSegInputs')]))
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.01))
param_scheduler = [dict(type='PolyLR', power=0.9, eta_min=0.0, end=2, by_epoch=False)]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=2, val_interval=2)
val_cfg = dict(type='ValLoop')
default_hooks = dict(
    logger=dict(type='LoggerHook', interval=1, log_metric_by_epoch=False),
    checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=2, save_best='mIoU'))
"""
