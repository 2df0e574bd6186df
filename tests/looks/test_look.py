"""The view that is looked at is the one that training uses."""
import pytest
import tiny
import torch

from mmseg_esl.functional import nearest
from mmseg_esl.looks import look
from mmseg_esl.models.pixel_to_part import PixelToPart


def images(model):
    inputs, samples = tiny.batch()
    labels = torch.stack([s.gt_sem_seg.data[0] for s in samples])
    return inputs, labels, samples


@pytest.mark.parametrize('corners', [False, True])
@pytest.mark.parametrize('resolution', ['embedding', 'image'])
def test_parts_are_those_of_training(monkeypatch, resolution, corners):
    seg = tiny.segmentor()
    seg['decode_head']['align_corners'] = corners
    model = tiny.esl(segmentor=seg, sharp=3.0, part_resolution=resolution)
    inputs, labels, samples = images(model)
    used, group = [], PixelToPart._group

    def spy(self, teacher, classes, *args):
        found = group(self, teacher, classes, *args)
        used.append((classes.clone(), found.clone()))
        return found

    monkeypatch.setattr(PixelToPart, '_group', spy)
    prototypes = model.part_memory.prototypes.clone()
    model.loss(inputs, samples)
    (classes, parts), = used
    model.part_memory.rollback()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    seen = look(model, inputs, classes)
    small = nearest(seen.parts, parts.shape[-2:], corners)
    assert seen.align_corners is corners
    assert torch.equal(small, parts) and (parts >= 0).any()
    assert torch.equal(prototypes, model.part_memory.prototypes)
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key]), key


def test_soft_label_and_shapes():
    model = tiny.esl(sharp=1.0)
    inputs, labels, _ = images(model)
    seen = look(model, inputs)
    area = labels.shape
    assert seen.probs.shape == (area[0], 3, *area[1:]) and seen.classes.shape == area
    torch.testing.assert_close(seen.probs.sum(dim=1), torch.ones(area))
    assert torch.equal(seen.size, (seen.target > 0).sum(dim=1))
    assert torch.equal(seen.grouped, seen.classes)
    own = seen.parts.div(model.part_memory.num_parts, rounding_mode='floor')
    low = nearest(nearest(seen.classes, seen.embedding.shape[-2:]), area[1:])
    assert torch.equal(own, low)
    with pytest.raises(ValueError, match='classes have shape'):
        look(model, inputs, labels[:1])


def test_unlabeled_pixels_have_no_part():
    model = tiny.esl()
    inputs, labels, _ = images(model)
    seen = look(model, inputs, torch.full_like(labels, 255))
    assert (seen.parts == -1).all() and (seen.grouped == -1).all()


def test_without_parts():
    model = tiny.esl('dsl')
    seen = look(model, images(model)[0])
    assert seen.parts is None and seen.encoder is None and seen.embedding is None
