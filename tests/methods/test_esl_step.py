"""Single settings of ESL's step, each by what it alone changes."""
import pytest
import tiny
import torch
from torch import nn

from mmseg_esl.methods import esl as method
from mmseg_esl.methods import esl_plus as plus
from mmseg_esl.models import pixel_to_part
from mmseg_esl.models.pixel_to_part import PixelToPart


def losses(iteration=0, seed=0, **semi):
    model = tiny.esl(sharp=2.0, confidence=0.5, **semi)
    model.iter = iteration
    torch.manual_seed(seed)
    return model, model.loss(*tiny.batch())


def test_the_ramp_weighs_every_unlabelled_term():
    _, whole = losses()
    _, half = losses(iteration=4, ramp_iters=10)
    assert whole['loss_ctr'] > 0 and whole['loss_sce'] > 0
    for name in ('loss_ctr', 'loss_sce'):
        torch.testing.assert_close(half[name], 0.5 * whole[name])
    torch.testing.assert_close(half['decode.loss_ce'], whole['decode.loss_ce'])


def test_the_cap_on_anchors():
    many, _ = losses()
    few, _ = losses(max_anchors=1)
    assert max(many.diagnostics.pop()['anchors']) > 1
    assert max(few.diagnostics.pop()['anchors']) == 1


def test_an_anchor_is_surer_than_zeta(monkeypatch):
    """Not as sure as it: 'p > zeta' in the paper."""
    seen, sample = {}, PixelToPart._sample

    def listen(self, anchors, draws):
        seen['anchors'] = anchors.clone()
        return sample(self, anchors, draws)

    monkeypatch.setattr(PixelToPart, '_sample', listen)
    model = tiny.esl(sharp=5.0, confidence=0.5, cutmix_prob=0.0)
    inputs, samples = tiny.batch(ignored=0)
    with torch.no_grad():
        probs = model.see('teacher', inputs[2:], mode='eval').logits.softmax(dim=1).amax(dim=1)
    low = probs[:, 2::4, 2::4]  # 32 to 8, centres aligned
    at = low[low > 0.5].median()
    model.cfg.confidence = float(at)
    model.loss(inputs, samples)
    assert torch.equal(seen['anchors'][2:] >= 0, low > at)
    assert (low == at).any() and (low > at).any()


@pytest.mark.parametrize('kind, where, keys', [
    ('ESL', method, {}), ('ESLPlus', plus, dict(alignment=0))])
def test_soft_labels_are_made_in_float32_of_half_logits(monkeypatch, kind, where, keys):
    """Their values, not their type alone: CPU's autocast has a softmax in bfloat16."""
    seen, target = {}, where.soft_target
    monkeypatch.setattr(where, 'soft_target',
                        lambda probs, *a, **k: seen.update(probs=probs) or target(probs, *a, **k))
    model = tiny.method(kind, variant='dsl', sharp=2.0, **keys)
    see = model.see

    def listen(name, *args, **kwargs):
        view = see(name, *args, **kwargs)
        if name == 'teacher':
            seen['logits'] = view.logits.clone()
        return view

    model.see = listen
    with torch.autocast('cpu', dtype=torch.bfloat16):
        loss = model.loss(*tiny.batch())['loss_sce']
    assert seen['logits'].dtype == torch.bfloat16
    exact = seen['logits'].double().softmax(dim=1)
    torch.testing.assert_close(seen['probs'].double(), exact, rtol=1e-5, atol=1e-7)
    assert loss.dtype == torch.float32 and loss.isfinite()


def test_the_contrast_is_computed_in_float32_under_autocast(monkeypatch):
    """Against float64 with the same draws; a product of matrices would be taken in bfloat16."""
    seen, part_contrast = {}, pixel_to_part.part_contrast

    def listen(embeddings, classes, parts, chosen, queue, *args, **kwargs):
        seen.update(state=torch.get_rng_state(), given=(classes, parts, chosen), args=args,
                    kwargs=kwargs, embeddings=embeddings.detach().double(), queue=queue.double())
        found = part_contrast(embeddings, classes, parts, chosen, queue, *args, **kwargs)
        seen['loss'] = found[0]
        return found

    monkeypatch.setattr(pixel_to_part, 'part_contrast', listen)
    model = tiny.esl(sharp=2.0, confidence=0.5)
    for seed in (0, 1):  # the first step fills the queues
        with torch.autocast('cpu', dtype=torch.bfloat16):
            model.loss(*tiny.batch(seed=seed))
    torch.set_rng_state(seen['state'])
    exact, used = part_contrast(seen['embeddings'], *seen['given'], seen['queue'], *seen['args'],
                                **seen['kwargs'])
    assert used.sum() > 10 and seen['loss'].dtype == torch.float32
    torch.testing.assert_close(seen['loss'].double(), exact, rtol=1e-6, atol=0)


def test_colours_are_of_each_image_and_come_before_the_boxes():
    class Fainter(nn.Module):
        """The n-th image is divided by n + 1."""

        def forward(self, images):
            return images / torch.arange(1.0, len(images) + 1)[:, None, None, None]

    model = tiny.esl('dsl', cutmix_prob=1.0)
    model.strong_view = Fainter()
    weak = tiny.batch(0, 3)[0]
    strong = model.strong(weak)
    assert strong.boxes.any() and not strong.boxes.all()
    for i in range(3):
        for box, source in ((False, i), (True, (i + 1) % 3)):
            shown = (weak[source] * 127.5 + 127.5) / (source + 1)
            where = strong.boxes[i] == box
            torch.testing.assert_close(strong.images[i][:, where] * 127.5 + 127.5,
                                       shown[:, where], rtol=1e-4, atol=1e-2)
