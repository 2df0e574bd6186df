"""What the mm* stack needs: on a recent torch, without a compiler, without a GPU."""
from .check import PAGE, check_stack, find_faults
from .launch import prepare_cpu, refuse_amp_on_cpu, start_gloo
from .shims import install

__all__ = ['PAGE', 'check_stack', 'find_faults', 'install', 'prepare_cpu', 'refuse_amp_on_cpu',
           'start_gloo']
