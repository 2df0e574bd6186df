"""Labels, confidences and boxes are read where the network's bilinear resizes read features."""
import every
import pytest
import tiny
import torch.nn.functional as F

from mmseg_esl.functional import cutmix


@pytest.mark.parametrize('corners', [False, True])
@pytest.mark.parametrize('kind', every.METHODS)
def test_every_resize_is_told_of_the_corners(kind, corners, monkeypatch):
    told, places, resized, interpolate = set(), cutmix._places, set(), F.interpolate

    def listen(source, target, align_corners, device):
        told.add(align_corners)
        return places(source, target, align_corners, device)

    def resize(x, size=None, scale_factor=None, mode='nearest', align_corners=None, **kwargs):
        if mode == 'bilinear':
            resized.add(align_corners)
        return interpolate(x, size, scale_factor, mode, align_corners, **kwargs)

    seg = tiny.segmentor()
    seg['decode_head']['align_corners'] = corners
    model = tiny.method(kind, seg, **every.Case(kind).semi)
    model.iter, model.max_iters = 10, 20  # past what begins later
    batch = tiny.batch(size=33)
    monkeypatch.setattr(cutmix, '_places', listen)
    monkeypatch.setattr(F, 'interpolate', resize)
    model.loss(*batch)
    assert told <= {corners}
    # the detector of flaws is a network of its own, whose resizes are its paper's
    assert resized == ({corners, True} if kind == 'GCT' else {corners})
    if kind in ('ESL', 'U2PL', 'ReCo', 'PseudoSeg', 'PC2Seg', 'CorrMatch', 'PSMT', 'CCT'):
        assert told
