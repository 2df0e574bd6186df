"""The stand-in for torch's allow-list, which torch before 2.6 lacks."""
import codecs
import io
import pickle

import numpy as np
import pytest
import torch

from mmseg_esl.storage.safe_loading import load_from_local, restricted_pickle
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


@pytest.mark.parametrize('content, key', [
    ({'model': {'a': 1.0}, 'epoch': 3}, 'state_dict'), ({'model': {}}, 'model'),
    ({'model': 'vit', 'state_dict': {'a': 1.0}}, 'state_dict')])
def test_weights_under_the_key_model(tmp_path, content, key):
    """As DeiT, DINO and MAE publish them."""
    content = {name: {k: torch.tensor(v) for k, v in value.items()} if isinstance(value, dict)
               else value for name, value in content.items()}
    torch.save(content, tmp_path / 'weights.pth')
    found = load_from_local(str(tmp_path / 'weights.pth'))
    assert key in found and (key == 'model') == ('state_dict' not in found)
    if key == 'state_dict':
        assert found['state_dict'] == {'a': torch.tensor(1.0)}
    assert found.get('epoch') == content.get('epoch')
