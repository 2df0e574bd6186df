"""The lists that UniMatch and U2PL publish, where they are: they are not ours to distribute."""
import os
from pathlib import Path

import pytest

BESIDE = Path(__file__).parents[2] / 'shared/data/splits'
LISTS = os.environ.get('MMSEG_ESL_SPLITS') or (str(BESIDE) if BESIDE.is_dir() else None)
needed = pytest.mark.skipif(
    not LISTS, reason='no published lists: neither MMSEG_ESL_SPLITS nor ../shared/data/splits '
    'beside the checkout has them (docs/datasets.md says where they are)')
