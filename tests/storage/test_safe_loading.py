"""The stand-in for torch's allow-list, which torch before 2.6 lacks."""
import codecs
import io
import pickle

import numpy as np
import pytest

from mmseg_esl.storage.safe_loading import restricted_pickle
from mmseg_esl.storage.stand_ins import real


class Encoded:
    """Pickled as a call of ``codecs.encode``."""

    def __init__(self, *args):
        self.args = args

    def __reduce__(self):
        return codecs.encode, self.args


def load(value):
    return restricted_pickle().load(io.BytesIO(pickle.dumps(value, protocol=2)))


def test_bytes_of_arrays_come_through():
    assert load(Encoded('a\xe9', 'latin1')) == b'a\xe9'
    array = np.arange(5, dtype=np.int16) - 300
    assert np.array_equal(real(load(array)), array)


@pytest.mark.parametrize('codec', ['rot13', 'utf-8', 'zip', 'unicode_escape'])
def test_no_other_codec(codec):
    with pytest.raises(pickle.UnpicklingError, match=rf'encode\({codec}\)'):
        load(Encoded('abc', codec))
