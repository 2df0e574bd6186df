"""Registered models: the teacher-student wrapper and ESL on it."""
from .esl import ESL
from .losses import OHEMCrossEntropyLoss
from .part_memory import PartMemory
from .projector import ESLProjector
from .strong_view import KorniaStrongView
from .teacher_student import TeacherStudentSegmentor

__all__ = ['ESL', 'ESLProjector', 'KorniaStrongView', 'OHEMCrossEntropyLoss', 'PartMemory',
           'TeacherStudentSegmentor']
