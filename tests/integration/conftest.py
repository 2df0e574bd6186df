"""Shared by the integration tests: a project on disk and one short training run."""
import uuid

import pytest
from mmengine.config import Config
from mmengine.runner import Runner
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
