"""Whether a few of the GPU's tests are to run on the CPU, as they are."""
import os

REHEARSAL = bool(os.environ.get('MMSEG_ESL_REHEARSAL'))
