"""Registered models: the teacher-student wrapper and ESL on it."""
from .esl import ESL
from .part_memory import PartMemory
from .projector import ESLProjector
from .strong_view import KorniaStrongView
from .teacher_student import TeacherStudentSegmentor

__all__ = ['ESL', 'ESLProjector', 'KorniaStrongView', 'PartMemory', 'TeacherStudentSegmentor']
