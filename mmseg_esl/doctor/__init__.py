"""What can be said about a training run before it starts; ``tools/doctor.py`` prints it."""

from .diagnose import diagnose
from .findings import Finding, exit_status

__all__ = ['Finding', 'diagnose', 'exit_status']
