"""The shims: each does its work, and leaves alone what works without it."""

import functools
import http.server
import importlib.util
import os
import pickle
import socket
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from line import Line, Numbers, make_runner
from mmengine.config import Config
from mmengine.config import utils as config_utils
from mmengine.hooks import LoggerHook
from mmengine.logging import HistoryBuffer
from mmengine.runner import BaseLoop
from mmengine.runner.checkpoint import CheckpointLoader, load_checkpoint
from torch import distributed
from torch.utils.data import DataLoader

from mmseg_esl import stack
from mmseg_esl.stack import check, shims
from mmseg_esl.storage import safe_loading

SAFE_LOADING = safe_loading.has_allow_list()
needs_safe_loading = pytest.mark.skipif(not SAFE_LOADING, reason='torch < 2.6 has no allow-list')


def run(code, **env):
    return subprocess.run([sys.executable, '-c', code], text=True, capture_output=True,
                          env={**os.environ, **env})


# ------------------------------------------------------------------------------------- install


def test_install_twice_changes_nothing():
    finders, schemes = list(sys.meta_path), dict(CheckpointLoader._schemes)
    stack.install()
    shims._installed = False
    stack.install()
    assert sys.meta_path == finders
    assert dict(CheckpointLoader._schemes) == schemes


def test_this_installation_has_no_faults():
    assert stack.find_faults() == []


@pytest.mark.parametrize('name, remedy', [
    ('torch', "pip install 'torch>=2.0'"),
    ('mmengine', 'pip install mmengine'),
    ('mmcv', 'pip install mmcv-lite==2.1.0'),
    ('mmseg', "pip install 'mmsegmentation>=1.0'"),
])
def test_missing_package_is_named_with_its_remedy(monkeypatch, name, remedy):
    real = check.missing
    monkeypatch.setattr(check, 'missing', lambda asked: asked == name or real(asked))
    with pytest.raises(ImportError) as caught:
        stack.check_stack()
    assert f'{name} is not installed: {remedy}' in str(caught.value)
    assert "'setuptools<81'" in str(caught.value)  # the whole stack, in one line to copy


def test_missing_pkg_resources_is_named_where_mmengine_uses_it(monkeypatch):
    real = check.missing
    monkeypatch.setattr(check, 'missing', lambda name: name == 'pkg_resources' or real(name))
    uses = check._source_mentions('mmengine.utils.package_utils', 'pkg_resources')
    assert any('setuptools<81' in fault for fault in stack.find_faults()) == uses


@pytest.mark.parametrize('module, version, said', [
    ('torch', '1.13.1+cu117', 'torch 1.13.1+cu117 is too old'),
    ('mmseg', '0.30.0', 'mmsegmentation 0.30.0 is too old'),
])
def test_old_versions_are_refused(monkeypatch, module, version, said):
    monkeypatch.setattr(importlib.import_module(module), '__version__', version)
    with pytest.raises(ImportError, match=said.replace('+', r'\+')):
        stack.check_stack()


@pytest.mark.parametrize('text, parsed', [
    ('2.13.0+cpu', (2, 13)), ('2.0.0rc4', (2, 0)), ('1.10', (1, 10)), ('3.dev', (3, 0))])
def test_version(text, parsed):
    assert check._version(text) == parsed


@pytest.mark.parametrize('rank', [0, 1])
def test_one_process_writes_the_metrics_of_a_test(monkeypatch, tmp_path, rank):
    runner = make_runner(tmp_path, 1)
    hook = next(hook for hook in runner.hooks if isinstance(hook, LoggerHook))
    monkeypatch.setattr('mmengine.dist.utils.get_rank', lambda group=None: rank)
    runner._test_loop = type('Test', (BaseLoop,), dict(run=None))(runner, DataLoader([0]))
    hook.before_run(runner)
    hook.after_test_epoch(runner, {'mIoU': 50.0})
    assert len(list(tmp_path.glob(f'*/{runner.timestamp}.json'))) == 1 - rank


WITHOUT_DISTUTILS = """
import sys
class Gone:
    def find_spec(name, path=None, target=None):
        if name == 'distutils':
            raise ModuleNotFoundError(name)
for name in [name for name in sys.modules if name.partition('.')[0] == 'distutils']:
    del sys.modules[name]
sys.meta_path.insert(0, Gone)
from mmseg_esl.stack import shims
if sys.argv[1:]:
    shims.provide_distutils()
from distutils import errors
print(errors.DistutilsPlatformError.__module__)
"""


@pytest.mark.parametrize('mended', [False, True])
def test_distutils_of_a_python_that_has_none(mended):
    """As from 3.12 on."""
    done = subprocess.run([sys.executable, '-c', WITHOUT_DISTUTILS, *['x'] * mended], text=True,
                          capture_output=True)
    assert (done.stdout.strip() == 'distutils.errors') == mended, done.stderr
    assert ('ModuleNotFoundError: distutils' in done.stderr) != mended


# ----------------------------------------------------------------------------------- mmcv._ext

USE_EXT = """
from mmseg_esl.stack import shims
shims.serve_mmcv_ext()
shims.serve_mmcv_ext()
import sys, mmcv._ext as ext
print(sys.meta_path.count(shims.MmcvExtFinder), getattr(ext, 'real') is True)
try:
    print(ext.nms())
except NotImplementedError as error:
    print(error)
"""


def fake_mmcv(folder, with_ext):
    package = folder / 'mmcv'
    package.mkdir()
    (package / '__init__.py').write_text('')
    if with_ext:
        (package / '_ext.py').write_text('real = True\ndef nms():\n    return "compiled"\n')
    return os.pathsep.join([str(folder), os.environ['PYTHONPATH']])


def test_placeholder_names_the_operator_and_full_mmcv(tmp_path):
    result = run(USE_EXT, PYTHONPATH=fake_mmcv(tmp_path, with_ext=False))
    assert result.stdout.startswith('1 False\n'), result.stderr
    assert "'nms'" in result.stdout and 'pip install mmcv==' in result.stdout


def test_real_operators_win(tmp_path):
    result = run(USE_EXT, PYTHONPATH=fake_mmcv(tmp_path, with_ext=True))
    assert result.stdout.split() == ['0', 'True', 'compiled'], result.stderr


def test_finder_serves_nothing_else():
    assert shims.MmcvExtFinder.find_spec('mmcv._ext_other') is None
    assert shims.MmcvExtFinder.find_spec('torch') is None


# ---------------------------------------------------------------------------------- checkpoints


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """(work folder, runner) after two iterations, the checkpoint written by mmengine itself."""
    folder = tmp_path_factory.mktemp('runner')
    runner = make_runner(folder, 2, 'first')
    runner.train()
    return folder, runner


def test_checkpoint_of_a_real_run_is_more_than_tensors(trained):
    """Else the tests below would prove nothing: plain safe loading refuses this file."""
    with pytest.raises(pickle.UnpicklingError):
        torch.load(trained[0] / 'iter_2.pth', weights_only=True)


def test_resume_restores_model_optimiser_schedule_and_log(trained):
    folder, first = trained
    second = make_runner(folder, 4, 'second', resume=True)
    second.load_or_resume()
    assert second.iter == 2
    assert torch.equal(second.model.layer.weight, first.model.layer.weight)
    history = first.message_hub.log_scalars['train/loss'].data[0]
    assert len(history) == 2
    assert np.array_equal(second.message_hub.log_scalars['train/loss'].data[0], history)

    third = make_runner(folder, 4, 'third', resume=True)
    third.train()
    assert third.iter == 4
    state = third.optim_wrapper.optimizer.state_dict()['state'][0]
    assert state['step'] == 4  # two before, two after: not started again
    assert len(third.message_hub.log_scalars['train/loss'].data[0]) == 4
    assert np.isfinite(third.message_hub.log_scalars['train/loss'].mean())


def test_load_checkpoint_as_inference_does(trained, loading):
    folder, first = trained
    model = Line()
    load_checkpoint(model, str(folder / 'iter_2.pth'), map_location='cpu')
    assert torch.equal(model.layer.weight, first.model.layer.weight)


class Call:
    """Pickles as a call of any function."""

    def __init__(self, function, *args):
        self.call = (function, args)

    def __reduce__(self):
        return self.call


@pytest.fixture(params=['own', 'torch'])
def loading(request, monkeypatch):
    """Both ways of restricting what is loaded: torch's (from 2.6 on), and ours for older ones."""
    if request.param == 'own':
        monkeypatch.setattr(safe_loading, 'has_allow_list', lambda: False)
    elif not SAFE_LOADING:
        pytest.skip('torch < 2.6 has no allow-list')
    return request.param


@pytest.mark.parametrize('function, args, named', [
    (os.system, ('touch {marker}', ), "'posix.system'"),
    (eval, ("open('{marker}', 'w')", ), "eval'"),
    (exec, ("open('{marker}', 'w')", ), "exec'"),
    (getattr, (HistoryBuffer, '__init__'), "'getattr(HistoryBuffer,__init__)'"),
    (getattr, (np.ndarray, 'tofile'), "'getattr(ndarray,tofile)'"),
    (np.load, ('{marker}', ), "'numpy.load'"),
])
def test_malicious_checkpoint_is_refused(tmp_path, loading, function, args, named):
    marker, path = tmp_path / 'marker', tmp_path / 'evil.pth'
    args = [arg.format(marker=marker) if isinstance(arg, str) else arg for arg in args]
    torch.save(dict(state_dict={}, meta=Call(function, *args)), path)
    allowed = set(torch.serialization.get_safe_globals()) if SAFE_LOADING else None
    with pytest.raises(pickle.UnpicklingError) as caught:
        CheckpointLoader.load_checkpoint(str(path), map_location='cpu', logger=None)
    message = str(caught.value)
    assert str(path) in message and named in message and 'add_safe_globals' in message
    assert not marker.exists()
    assert not SAFE_LOADING or set(torch.serialization.get_safe_globals()) == allowed


@needs_safe_loading
def test_object_array_is_refused(tmp_path):
    path = tmp_path / 'objects.pth'
    torch.save(dict(meta=np.array([dict(), 'x'], dtype=object)), path)
    with pytest.raises(pickle.UnpicklingError, match=str(path)):
        safe_loading.load_from_local(str(path))


@needs_safe_loading
def test_allow_list_of_the_user_is_kept(tmp_path):
    """What the user allowed for the process is usable here, and still allowed afterwards."""
    path = tmp_path / 'numbers.pth'
    torch.save(dict(data=Numbers()), path)
    with pytest.raises(pickle.UnpicklingError, match='Numbers'):
        safe_loading.load_from_local(str(path))
    with torch.serialization.safe_globals([Numbers, HistoryBuffer]):
        assert isinstance(safe_loading.load_from_local(str(path))['data'], Numbers)
        assert HistoryBuffer in torch.serialization.get_safe_globals()


def test_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match='nowhere.pth'):
        safe_loading.load_from_local(str(tmp_path / 'nowhere.pth'))


def test_the_fork_falls_back_to_nothing(tmp_path, monkeypatch):
    """The OneDL fork's mmengine loads by _safe_torch_load, which tries again without safety."""
    from mmengine.runner import checkpoint

    def fork(file, map_location=None, weights_only=None):
        return torch.load(file, map_location=map_location, weights_only=False)

    marker, path = tmp_path / 'marker', tmp_path / 'evil.pth'
    torch.save(dict(meta=Call(os.system, f'touch {marker}')), path)
    monkeypatch.setattr(checkpoint, '_safe_torch_load', fork, raising=False)
    monkeypatch.setattr(CheckpointLoader, '_schemes', {
        **CheckpointLoader._schemes, '': lambda name, map_location: fork(name, map_location)})
    checkpoint._safe_torch_load(path)
    assert marker.exists()  # so it would be noticed
    marker.unlink()
    shims.load_checkpoints_safely()
    with pytest.raises(pickle.UnpicklingError, match='system'):
        checkpoint._safe_torch_load(path)
    with pytest.raises(pickle.UnpicklingError, match='system'):
        CheckpointLoader.load_checkpoint(str(path), logger=None)
    assert not marker.exists()


def test_what_comes_from_a_url_is_loaded_safely(tmp_path, monkeypatch):
    marker = tmp_path / 'marker'
    (tmp_path / 'site').mkdir()
    torch.save(dict(meta=Call(os.system, f'touch {marker}')), tmp_path / 'site/evil.pth')
    torch.save(dict(state_dict=dict(x=torch.ones(2))), tmp_path / 'site/good.pth')
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'cache'))
    handler = functools.partial(QuietHandler, directory=str(tmp_path / 'site'))
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        site = f'http://127.0.0.1:{server.server_address[1]}'
        good = CheckpointLoader.load_checkpoint(f'{site}/good.pth', logger=None)
        with pytest.raises(pickle.UnpicklingError, match='system'):
            CheckpointLoader.load_checkpoint(f'{site}/evil.pth', logger=None)
        server.shutdown()
    assert torch.equal(good['state_dict']['x'], torch.ones(2))
    assert not marker.exists()


class QuietHandler(http.server.SimpleHTTPRequestHandler):

    def log_message(self, *args):
        """Nothing."""


# --------------------------------------------------------------------------- torchvision, OneDL


@pytest.mark.skipif(importlib.util.find_spec('torchvision') is None, reason='no torchvision')
def test_torchvision_imports():
    result = run('from mmseg_esl.stack import shims; shims.define_torchvision_schemas(); '
                 'import torchvision.ops, torchvision.transforms; print(torchvision.__version__)')
    assert result.returncode == 0, result.stderr


def test_torchvision_with_a_library_that_does_not_load(tmp_path):
    """A stand-in that, as the real one, needs the schema at import and cannot load its library."""
    package = tmp_path / 'torchvision'
    package.mkdir()
    (package / '_C.so').write_bytes(b'not a library')
    (package / '__init__.py').write_text(
        'import torch\n'
        '@torch.library.register_fake("torchvision::nms")\n'
        'def nms(dets, scores, iou_threshold):\n    return dets\n')
    path = os.pathsep.join([str(tmp_path), os.environ['PYTHONPATH']])
    mend = 'from mmseg_esl.stack import shims; shims.define_torchvision_schemas(); '
    assert run('import torchvision', PYTHONPATH=path).returncode != 0
    result = run(mend + 'import torchvision', PYTHONPATH=path)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize('installed, expected', [
    ({'onedl-mmsegmentation'}, 'onedl-mmsegmentation'),
    ({'mmsegmentation'}, 'mmsegmentation'),
    ({'mmsegmentation', 'onedl-mmsegmentation'}, 'mmsegmentation'),
    (set(), 'mmsegmentation'),
])
def test_fork_is_mapped_only_where_the_original_is_absent(monkeypatch, installed, expected):
    monkeypatch.setitem(config_utils.MODULE2PACKAGE, 'mmseg', 'mmsegmentation')
    monkeypatch.setitem(config_utils.MODULE2PACKAGE, 'mmpretrain', 'mmpretrain')
    monkeypatch.setattr(shims, '_distributed', lambda name: name in installed)
    shims.map_onedl_packages()
    assert config_utils.MODULE2PACKAGE['mmseg'] == expected
    assert config_utils.MODULE2PACKAGE['mmpretrain'] == 'mmpretrain'


def test_stock_config_is_inherited(tmp_path):
    path = tmp_path / 'config.py'
    path.write_text(
        "_base_ = 'mmseg::pspnet/pspnet_r50-d8_4xb2-40k_cityscapes-512x1024.py'\n")
    assert Config.fromfile(str(path)).model.type == 'EncoderDecoder'


# ------------------------------------------------------------------------------------- CPU runs


def amp_config(launcher='none'):
    return Config(dict(
        launcher=launcher,
        optim_wrapper=dict(type='AmpOptimWrapper', loss_scale='dynamic', dtype='float16',
                           optimizer=dict(type='SGD', lr=0.1)),
        env_cfg=dict(dist_cfg=dict(backend='nccl'))))


@pytest.fixture
def on_cpu(monkeypatch):
    monkeypatch.setattr('mmengine.device.get_device', lambda: 'cpu')


def test_amp_becomes_full_precision_on_cpu(on_cpu):
    cfg = amp_config()
    stack.prepare_cpu(cfg)
    assert cfg.optim_wrapper == dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1))
    assert cfg.env_cfg.dist_cfg.backend == 'nccl'  # no launcher: nothing to change
    assert 'model_wrapper_cfg' not in cfg


def test_nothing_changes_with_an_accelerator(monkeypatch):
    monkeypatch.setattr('mmengine.device.get_device', lambda: 'cuda')
    cfg = amp_config('pytorch')
    stack.prepare_cpu(cfg)
    stack.refuse_amp_on_cpu()
    assert cfg.to_dict() == amp_config('pytorch').to_dict()
    assert not distributed.is_initialized()


def test_amp_asked_for_on_cpu_is_refused(on_cpu):
    with pytest.raises(RuntimeError, match='--amp needs an accelerator'):
        stack.refuse_amp_on_cpu()


def free_port():
    with socket.socket() as sock:
        sock.bind(('127.0.0.1', 0))
        return str(sock.getsockname()[1])


@pytest.fixture
def rendezvous(monkeypatch):
    """The variables that torchrun sets, for one process; the group is gone afterwards."""
    for name, value in dict(RANK='0', WORLD_SIZE='1', LOCAL_RANK='0', MASTER_ADDR='127.0.0.1',
                            MASTER_PORT=free_port()).items():
        monkeypatch.setenv(name, value)
    yield
    if distributed.is_initialized():
        distributed.destroy_process_group()


def test_gloo_and_wrapper_without_device_ids(on_cpu, rendezvous):
    cfg = amp_config('pytorch')
    cfg.find_unused_parameters = True
    stack.prepare_cpu(cfg)
    stack.prepare_cpu(cfg)  # a group that exists is kept
    assert distributed.get_backend() == 'gloo'
    assert cfg.env_cfg.dist_cfg.backend == 'gloo'
    assert cfg.model_wrapper_cfg == dict(
        type='MMDistributedDataParallel', broadcast_buffers=False, find_unused_parameters=True,
        device_ids=None)


def test_wrapper_of_the_user_is_kept(on_cpu, rendezvous):
    cfg = amp_config('pytorch')
    cfg.model_wrapper_cfg = dict(type='MMDistributedDataParallel', static_graph=True)
    stack.prepare_cpu(cfg)
    assert cfg.model_wrapper_cfg.static_graph is True
    assert cfg.model_wrapper_cfg.device_ids is None


def test_launcher_without_its_environment_is_named(on_cpu, monkeypatch):
    for name in ('RANK', 'SLURM_PROCID', 'OMPI_COMM_WORLD_RANK'):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(RuntimeError, match='variable RANK.*dist_train.sh'):
        stack.start_gloo('pytorch')
    with pytest.raises(RuntimeError, match='variable SLURM_PROCID.*srun'):
        stack.start_gloo('slurm')
    with pytest.raises(RuntimeError, match='variable OMPI_COMM_WORLD_RANK.*mpirun'):
        stack.start_gloo('mpi')
    with pytest.raises(ValueError, match="'carrier-pigeon'"):
        stack.start_gloo('carrier-pigeon')
