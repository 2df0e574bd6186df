"""Processes on machines without a GPU: precision, process groups, launchers."""
from __future__ import annotations

import atexit
import logging
import os
import subprocess
import time

from ..commands import tool


def prepare_cpu(cfg) -> None:
    """Make a config that was written for GPUs run where there is none; changes ``cfg`` in place.

    Mixed precision needs an accelerator, so an AmpOptimWrapper becomes an OptimWrapper with a
    warning. With a launcher the processes talk over gloo, started here because mmengine's
    ``init_dist`` calls ``torch.cuda.set_device``, and DistributedDataParallel gets no device ids.
    Unnecessary when mmengine does both itself. Does nothing where an accelerator is found.

    Args:
        cfg (mmengine.Config): the whole config, ``cfg.launcher`` already set.

    Raises:
        RuntimeError: the launcher did not set an environment variable that is needed.
    """
    from mmengine.device import get_device

    if get_device() != 'cpu':
        return
    _use_full_precision(cfg)
    if cfg.get('launcher', 'none') == 'none':
        return
    env_cfg = cfg.setdefault('env_cfg', {})
    dist_cfg = env_cfg.setdefault('dist_cfg', {})
    dist_cfg['backend'] = 'gloo'
    start_gloo(cfg.launcher, timeout=dist_cfg.get('timeout'))
    wrapper = cfg.get('model_wrapper_cfg')
    if wrapper is None:
        # the arguments that mmengine itself uses when no wrapper is configured
        wrapper = dict(type='MMDistributedDataParallel', broadcast_buffers=False,
                       find_unused_parameters=cfg.get('find_unused_parameters', False))
    wrapper['device_ids'] = None
    cfg.model_wrapper_cfg = wrapper


def refuse_amp_on_cpu() -> None:
    """Say why ``--amp`` cannot be had: it is asked for explicitly, so it is not ignored.

    Raises:
        RuntimeError: there is no accelerator.
    """
    from mmengine.device import get_device

    if get_device() == 'cpu':
        raise RuntimeError('--amp needs an accelerator and none is visible to torch. Leave --amp '
                           'out to train in single precision on the CPU, or make a GPU visible '
                           '(CUDA_VISIBLE_DEVICES, a torch built for CUDA).')


def _use_full_precision(cfg) -> None:
    """Replace an AmpOptimWrapper, which refuses to run on CPU; said in the log."""
    optim = cfg.get('optim_wrapper')
    if optim is None or optim.get('type') != 'AmpOptimWrapper':
        return
    from mmengine.logging import print_log

    optim['type'] = 'OptimWrapper'
    for key in ('loss_scale', 'dtype', 'use_fsdp'):
        optim.pop(key, None)
    print_log('optim_wrapper.type=AmpOptimWrapper needs an accelerator and none is visible: '
              'training goes on in single precision (OptimWrapper)', 'current', logging.WARNING)


def start_gloo(launcher: str, timeout=None) -> None:
    """Initialise a gloo process group from the launcher's environment, unless one exists.

    Args:
        launcher: 'pytorch' (torchrun), 'slurm' or 'mpi'.
        timeout: seconds after which a collective gives up, or None for torch's default.

    Raises:
        RuntimeError: an environment variable is missing; the message names it and the launcher.
        ValueError: an unknown launcher.
    """
    import datetime

    from torch import distributed

    if distributed.is_initialized():
        return
    if launcher == 'slurm':
        _environment_from_slurm()
    elif launcher == 'mpi':
        _environment_from_mpi()
    elif launcher != 'pytorch':
        raise ValueError(f"launcher is '{launcher}'; choose none, pytorch, slurm or mpi")
    for name in ('RANK', 'WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT'):
        _variable(name, launcher)
    os.environ.setdefault('LOCAL_RANK', os.environ['RANK'])
    options = {} if timeout is None else dict(timeout=datetime.timedelta(seconds=timeout))
    distributed.init_process_group('gloo', **options)
    atexit.register(_close_process_group)


def _close_process_group() -> None:
    """Let gloo's threads finish before the interpreter does; at the end of the process.

    A thread that still holds the tensors of the last collective wants the interpreter's lock in
    order to let them go, and where there is no interpreter any more the process aborts ('terminate
    called without an active exception'), which torchrun takes for a failure. Closing the group is
    not enough: a DistributedDataParallel that is still there keeps it alive.
    """
    from torch import distributed

    if distributed.is_initialized():
        distributed.destroy_process_group()
    time.sleep(0.2)


def _variable(name: str, launcher: str) -> str:
    """An environment variable that the launcher should have set."""
    if name not in os.environ:
        hint = {'pytorch': f'start with {tool("dist_train.sh")} or torchrun',
                'slurm': f'start with {tool("slurm_train.sh")} or srun',
                'mpi': 'start with mpirun and export MASTER_ADDR'}[launcher]
        raise RuntimeError(f"--launcher {launcher} needs the environment variable {name}, which is "
                           f'not set: {hint}, or use --launcher none')
    return os.environ[name]


def _environment_from_slurm() -> None:
    """Set torch's rendezvous variables from those of srun."""
    rank, world = _variable('SLURM_PROCID', 'slurm'), _variable('SLURM_NTASKS', 'slurm')
    os.environ.update(RANK=rank, WORLD_SIZE=world,
                      LOCAL_RANK=os.environ.get('SLURM_LOCALID', rank))
    os.environ.setdefault('MASTER_PORT', '29500')
    if 'MASTER_ADDR' not in os.environ:
        nodes = _variable('SLURM_NODELIST', 'slurm')
        hosts = subprocess.run(['scontrol', 'show', 'hostname', nodes], check=True,
                               stdout=subprocess.PIPE, text=True).stdout
        os.environ['MASTER_ADDR'] = hosts.split()[0]


def _environment_from_mpi() -> None:
    """Set torch's rendezvous variables from those of Open MPI."""
    os.environ.update(RANK=_variable('OMPI_COMM_WORLD_RANK', 'mpi'),
                      WORLD_SIZE=_variable('OMPI_COMM_WORLD_SIZE', 'mpi'),
                      LOCAL_RANK=_variable('OMPI_COMM_WORLD_LOCAL_RANK', 'mpi'))
    os.environ.setdefault('MASTER_PORT', '29500')
