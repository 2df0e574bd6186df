"""Command lines: what the shell scripts start, and what train.py and test.py make of options."""

import argparse
import importlib.util
import math
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import BaseDataset

from mmseg_esl.engine.hooks import testing

TOOLS = Path(__file__).parents[1] / 'tools'


@pytest.fixture
def recorder(tmp_path):
    """An executable that prints its arguments, one a line, and the variables that matter."""
    path = tmp_path / 'recorder'
    path.write_text('#!/usr/bin/env bash\nprintf "%s\\n" "$@"\n'
                    'echo "PYTHONPATH=$PYTHONPATH"; echo "MASTER_PORT=${MASTER_PORT:-}"\n')
    path.chmod(0o755)
    return path


def script(name, *args, **env):
    clean = {key: value for key, value in os.environ.items()
             if key not in ('NNODES', 'NODE_RANK', 'PORT', 'MASTER_ADDR', 'MASTER_PORT', 'GPUS',
                            'GPUS_PER_NODE', 'CPUS_PER_TASK', 'SRUN_ARGS')}
    return subprocess.run(['bash', str(TOOLS / name), *args], text=True, capture_output=True,
                          env={**clean, **{key: str(value) for key, value in env.items()}})


@pytest.mark.parametrize('name, given, wanted', [
    ('dist_train.sh', ['my config.py', '4'], ['train.py', 'my config.py']),
    ('dist_test.sh', ['my config.py', 'my ckpt.pth', '4'],
     ['test.py', 'my config.py', 'my ckpt.pth']),
])
def test_dist_scripts_start_torchrun_and_quote(recorder, name, given, wanted):
    options = ['--work-dir', 'a b', '--cfg-options', 'x="[1, 2]"', '']
    lines = script(name, *given, *options, PYTHON=recorder).stdout.split('\n')
    assert lines[:5] == ['-m', 'torch.distributed.run', '--standalone', '--nproc_per_node', '4']
    assert lines[5] == str(TOOLS / wanted[0])
    assert lines[6:6 + len(wanted) - 1] == wanted[1:]
    assert lines[5 + len(wanted):12 + len(wanted)] == ['--launcher', 'pytorch', *options]
    assert lines[12 + len(wanted)].startswith(f'PYTHONPATH={TOOLS.parent}')


def test_several_machines(recorder):
    lines = script('dist_train.sh', 'c.py', '8', PYTHON=recorder, NNODES=2, NODE_RANK=1,
                   MASTER_ADDR='10.0.0.1', PORT=2950).stdout.split('\n')
    assert lines[2:10] == ['--nnodes', '2', '--node_rank', '1', '--master_addr', '10.0.0.1',
                           '--master_port', '2950']


def test_slurm(recorder, tmp_path):
    (tmp_path / 'srun').symlink_to(recorder)
    path = f'{tmp_path}{os.pathsep}{os.environ["PATH"]}'
    lines = script('slurm_train.sh', 'part', 'job', 'my config.py', '--resume', PATH=path, GPUS=16,
                   GPUS_PER_NODE=8, SRUN_ARGS='--time 1:00 --mem=4G', PORT=123,
                   PYTHON='py').stdout.split('\n')
    assert lines[:5] == ['--partition=part', '--job-name=job', '--gres=gpu:8', '--ntasks=16',
                         '--ntasks-per-node=8']
    assert lines[7:10] == ['--time', '1:00', '--mem=4G']
    assert lines[10:17] == ['py', '-u', str(TOOLS / 'train.py'), 'my config.py', '--launcher',
                            'slurm', '--resume']
    assert 'MASTER_PORT=123' in lines


@pytest.mark.parametrize('name', ['dist_train.sh', 'dist_test.sh', 'slurm_train.sh'])
def test_too_few_arguments_show_the_usage(name):
    result = script(name, 'only_one')
    assert result.returncode == 2 and result.stderr.startswith('usage:')


# -------------------------------------------------------------------------------------- python


@pytest.fixture
def tools(monkeypatch):
    """Import a tool as a module, and forget it afterwards."""
    monkeypatch.syspath_prepend(str(TOOLS))

    def load(name):
        monkeypatch.delitem(sys.modules, name, raising=False)
        return __import__(name)

    return load


@pytest.fixture
def config_file(tmp_path):
    path = tmp_path / 'tiny.py'
    path.write_text("a = dict(b=1)\noptim_wrapper = dict(type='OptimWrapper')\n")
    return path


def options(config, **kwargs):
    return argparse.Namespace(config=str(config), **{
        'work_dir': None, 'cfg_options': None, 'launcher': 'none', 'local_rank': 0, **kwargs})


def test_work_dir_comes_from_option_then_config_then_name(tools, config_file, monkeypatch):
    monkeypatch.setenv('LOCAL_RANK', '0')
    load_config = tools('cli_common').load_config
    assert load_config(options(config_file)).work_dir == os.path.join('work_dirs', 'tiny')
    overridden = load_config(options(config_file, cfg_options={'a.b': 2, 'work_dir': 'x'}))
    assert (overridden.a.b, overridden.work_dir) == (2, 'x')
    both = options(config_file, cfg_options={'work_dir': 'x'}, work_dir='y')
    assert load_config(both).work_dir == 'y'


BF16 = dict(type='AmpOptimWrapper', dtype='bfloat16', loss_scale=dict(enabled=False))
FP16 = dict(type='AmpOptimWrapper', loss_scale='dynamic')
MINE = dict(type='AmpOptimWrapper', loss_scale=512.0)


@pytest.mark.parametrize('given, precision, wanted', [
    (dict(type='OptimWrapper'), 'bf16', BF16),
    (dict(type='OptimWrapper'), 'fp16', FP16),
    (FP16, 'bf16', BF16),
    (BF16, 'fp16', FP16),
    (MINE, 'auto', MINE),
    (MINE, 'fp16', MINE),
    (dict(MINE, dtype='float16'), 'fp16', dict(MINE, dtype='float16')),
])
def test_amp(tools, given, precision, wanted):
    cfg = Config(dict(optim_wrapper=dict(given)))
    for _ in range(2):
        tools('train').use_amp(cfg, precision)
    assert cfg.optim_wrapper == wanted
    with pytest.raises(SystemExit, match="'Other'"):
        tools('train').use_amp(Config(dict(optim_wrapper=dict(type='Other'))), precision)


@pytest.mark.parametrize('capability, wanted', [((7, 5), FP16), ((8, 0), BF16), ((9, 0), BF16)])
def test_amp_takes_what_the_gpu_has(tools, monkeypatch, capability, wanted):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda: capability)
    cfg = Config(dict(optim_wrapper=dict(type='OptimWrapper')))
    tools('train').use_amp(cfg, 'auto')
    assert cfg.optim_wrapper == wanted


@pytest.mark.parametrize('given, amp', [
    ([], None), (['--amp'], 'auto'), (['--amp', 'bf16'], 'bf16'), (['--amp', '--compile'], 'auto')])
def test_options_of_train_py(tools, monkeypatch, given, amp):
    monkeypatch.setattr(sys, 'argv', ['train.py', 'c.py', *given])
    args = tools('train').parse_args()
    assert (args.config, args.amp, args.compile) == ('c.py', amp, '--compile' in given)
    assert not args.channels_last and args.profile is None


def test_a_hook_of_the_command_line_replaces_the_config_s(tools):
    ema = dict(type='TeacherEMAHook')
    cfg = Config(dict(custom_hooks=[dict(type='CompileHook', mode='default'), ema]))
    tools('train').add_hook(cfg, type='CompileHook')
    assert cfg.custom_hooks == [ema, dict(type='CompileHook')]
    cfg = Config({})
    tools('train').add_hook(cfg, type='StepProfilerHook', iters=3)
    assert cfg.custom_hooks == [dict(type='StepProfilerHook', iters=3)]


def test_resume_and_load_from(tools, tmp_path):
    use_resume = tools('train').use_resume

    def start(named=False, **keys):
        cfg = Config(dict(work_dir=str(tmp_path), **keys))
        use_resume(cfg, named)
        return cfg.resume, cfg.get('load_from')

    assert start() == (True, None)
    assert start(load_from='begin.pth') == (False, 'begin.pth')
    assert start(load_from='mine.pth', named=True) == (True, 'mine.pth')
    (tmp_path / 'iter_2.pth').touch()
    assert start(load_from='begin.pth') == (True, None)
    assert start(load_from='mine.pth', named=True) == (True, 'mine.pth')


def of_images(*paths):
    """What a hook asks a runner for: the images of its test set."""
    dataset = BaseDataset(lazy_init=True)
    dataset.load_data_list = lambda: [dict(img_path=path) for path in paths]
    dataset.full_init()
    return SimpleNamespace(test_dataloader=SimpleNamespace(dataset=dataset))


def test_options_of_test_py(tools):
    # not by its name: the standard library has a package of that name
    tools('cli_common')
    spec = importlib.util.spec_from_file_location('test_tool', TOOLS / 'test.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    cfg = Config(dict(
        model=dict(type='M'), tta_model=dict(type='T'), tta_pipeline=[1],
        test_dataloader=dict(dataset=dict(pipeline=[2])), visualizer=dict(type='V'),
        test_evaluator=[dict(type='A'), dict(type='B')],
        default_hooks=dict(visualization=dict(type='SegVisualizationHook'))))
    module.use_tta(cfg)
    assert cfg.model == dict(type='T', module=dict(type='M'))
    assert cfg.test_dataloader.dataset.pipeline == [1]
    module.write_predictions(cfg, 'out')
    assert [item.output_dir for item in cfg.test_evaluator] == ['out', 'out']
    module.draw_predictions(cfg, argparse.Namespace(show=True, wait_time=3, show_dir='d'))
    hook = cfg.default_hooks.visualization
    assert (hook.draw, hook.show, hook.wait_time, cfg.visualizer.save_dir) == (True, True, 3, 'd')
    assert hook.interval == 1 and cfg.visualizer.vis_backends == [dict(type='LocalVisBackend')]
    testing.NamesOnce().before_test(of_images('a/x.png', 'a/y.png', 'a/x.png'))
    with pytest.raises(testing.Untestable, match="'a/x.png' and 'b/x.jpg' would share a result"):
        testing.NamesOnce().before_test(of_images('a/x.png', 'a/y.png', 'b/x.jpg'))
    model = torch.nn.Linear(1, 1)
    runner = SimpleNamespace(model=model, _load_from='a.pth')
    testing.Finite().after_load_checkpoint(runner, dict(state_dict=model.state_dict()))
    with pytest.raises(testing.Untestable, match='a.pth is of a training that diverged.*weight'):
        testing.Finite().after_load_checkpoint(runner, dict(
            state_dict=dict(model.state_dict(), weight=torch.tensor([[math.inf]]))))
    with pytest.raises(SystemExit, match='tta_pipeline'):
        module.use_tta(Config(dict(model=dict(type='M'))))
    with pytest.raises(SystemExit, match='SegVisualizationHook'):
        module.draw_predictions(Config({}), argparse.Namespace())
