"""Labels, confidences and boxes are read where the network's bilinear resizes read features."""
import every
import pytest
import tiny

from mmseg_esl.functional import cutmix


@pytest.mark.parametrize('corners', [False, True])
@pytest.mark.parametrize('kind', every.METHODS)
def test_every_resize_is_told_of_the_corners(kind, corners, monkeypatch):
    told, places = set(), cutmix._places

    def listen(source, target, align_corners, device):
        told.add(align_corners)
        return places(source, target, align_corners, device)

    monkeypatch.setattr(cutmix, '_places', listen)
    seg = tiny.segmentor()
    seg['decode_head']['align_corners'] = corners
    model = tiny.method(kind, seg, **every.Case(kind).semi)
    model.iter, model.max_iters = 10, 20  # past what begins later
    model.loss(*tiny.batch(size=33))
    assert told <= {corners}
    if kind in ('ESL', 'U2PL', 'ReCo', 'PseudoSeg', 'PC2Seg', 'CorrMatch', 'PSMT', 'CCT'):
        assert told
