"""Shared by the integration tests: a project on disk and one short training run."""
import shutil
import uuid

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from mmseg.apis import init_model
from PIL import Image
from project import write_project


def train(config, work_dir, **options):
    """Train in this process; ``options`` are what --cfg-options would set, dots as in the shell."""
    cfg = Config.fromfile(str(config))
    # mmengine keeps visualizers by name, each with the folder of its first run
    cfg.merge_from_dict({'work_dir': str(work_dir), 'experiment_name': uuid.uuid4().hex,
                         'visualizer.name': uuid.uuid4().hex, **options})
    runner = Runner.from_cfg(cfg)
    runner.train()
    return runner


@pytest.fixture(scope='session')
def trained(tmp_path_factory):
    """(config, work folder, runner) of a run of six iterations with checkpoints at 3 and 6.

    The folder is for reading only.
    """
    folder = tmp_path_factory.mktemp('project')
    config = write_project(folder)
    return config, folder / 'work', train(config, folder / 'work')


@pytest.fixture(scope='session')
def cps(tmp_path_factory):
    """(config, checkpoint, runner) of two iterations of a method whose networks are both trained.

    The folder is for reading only.
    """
    folder = tmp_path_factory.mktemp('cps')
    config = write_project(folder).with_name('cps.py')
    runner = train(config, folder / 'work', **{'default_hooks.checkpoint.interval': 2})
    return config, folder / 'work/iter_2.pth', runner


@pytest.fixture(scope='session')
def seeing(trained, tmp_path_factory):
    """(config, work folder) of networks that see every class: six iterations leave one.

    The folder is for reading only.
    """
    config, work, _ = trained
    folder = tmp_path_factory.mktemp('run') / 'work'
    folder.mkdir()
    model = init_model(str(config), str(work / 'iter_6.pth'), device='cpu')
    paths = (config.parent / 'data/images/val').iterdir()
    images = [np.asarray(Image.open(path)) for path in paths]
    inputs = (torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2) - 127.5) / 127.5
    for seed, network in enumerate((model.teacher, model.student)):
        classifier, generator = network.decode_head.conv_seg, torch.Generator().manual_seed(seed)
        with torch.no_grad():
            network.apply(restart_statistics).train()
            network(inputs)
            network.eval()
            classifier.weight.normal_(generator=generator)
            classifier.bias.sub_(network(inputs).mean(dim=(0, 2, 3)))
    for name in ('iter_3.pth', 'iter_6.pth'):
        content = torch.load(work / name, weights_only=True)
        content['state_dict'] = model.state_dict()
        torch.save(content, folder / name)
        torch.nn.init.normal_(model.teacher.decode_head.conv_seg.weight)  # iter_6 is another
    shutil.copy(work / 'esl.py', folder)
    return config, folder


def restart_statistics(module) -> None:
    if isinstance(module, torch.nn.BatchNorm2d):
        module.reset_running_stats()
        module.momentum = None
