"""k micro-batches accumulated by mmengine's OptimWrapper against one batch of all their images."""
import pytest
import tiny
import torch
from mmengine.optim import OptimWrapper

IMAGES, SIZE = 2, 32  # labelled, and as many unlabelled, in a micro-batch
CE = dict(type='CrossEntropyLoss', avg_non_ignore=True)
EXACT_CE = dict(type='OHEMCrossEntropyLoss', thresh=1.0, min_kept=1)  # keeps every valid pixel


def prepared(variant, loss=EXACT_CE):
    """Float64, batch norm frozen, no CutMix (whose partner is the batch's next image)."""
    seg = tiny.segmentor()
    seg['decode_head']['loss_decode'] = loss
    model = tiny.esl(variant, segmentor=seg, sharp=4.0, queue=64, cutmix_prob=0.0, confidence=0.5)
    gen = torch.Generator().manual_seed(1)
    with torch.no_grad():  # or the student would agree with its teacher: no gradient of the SCE
        for p in model.student.parameters():
            p += 0.1 * p.std().nan_to_num() * torch.randn(p.shape, generator=gen)
    return model.double().eval()


def data(count, ignored=4):
    """``count`` micro-batches, with as many valid pixels each, unless ``ignored`` is None."""
    out = []
    for number in range(count):
        columns = 4 * number if ignored is None else ignored
        inputs, samples = tiny.batch(IMAGES, IMAGES, seed=number, size=SIZE, ignored=columns)
        out.append((inputs.double(), samples))
    return out


def joined(batches):
    """One batch of all images, labelled first."""
    inputs = [x[:IMAGES] for x, _ in batches] + [x[IMAGES:] for x, _ in batches]
    samples = [s for _, b in batches for s in b[:IMAGES]]
    return [(torch.cat(inputs), samples + [s for _, b in batches for s in b[IMAGES:]])]


def step(model, batches, after_each=lambda: None, only=None):
    """One step of the optimiser over all batches: the gradient that it met, as one vector."""
    params = [p for p in model.parameters() if p.requires_grad]
    wrapper = OptimWrapper(torch.optim.SGD(params, lr=0.1), accumulative_counts=len(batches))
    wrapper.initialize_count_status(model, 0, len(batches))
    found = []
    wrapper.optimizer.register_step_pre_hook(lambda *_: found.append(
        torch.cat([p.grad.flatten() if p.grad is not None else p.new_zeros(p.numel())
                   for p in params])))
    for inputs, samples in batches:
        with wrapper.optim_context(model):
            losses = model(inputs, samples, mode='loss')
        loss, _ = model.parse_losses({k: v for k, v in losses.items() if only in (None, k)})
        wrapper.update_params(loss)
        after_each()
    assert len(found) == 1
    return found[0]


def apart(variant, batches, loss=EXACT_CE, **kwargs):
    """Relative difference of the two gradients."""
    many = step(prepared(variant, loss), batches, **kwargs)
    one = step(prepared(variant, loss), joined(batches), **kwargs)
    assert one.norm() > 1e-3
    return float((many - one).norm() / one.norm())


@pytest.mark.parametrize('variant', ['sup', 'dsl'])
@pytest.mark.parametrize('count', [2, 3])
def test_accumulation_is_the_large_batch(variant, count):
    assert apart(variant, data(count)) < 1e-12
    # mmseg's own loss divides by count + 1.2e-7, which is another share of another count
    assert apart(variant, data(count), CE) < 1e-10


@pytest.mark.parametrize('term', ['decode.loss_ce', 'loss_sce'])
def test_it_is_not_where_counts_of_valid_pixels_differ(term):
    """Each micro-batch divides by its own count: the comparison above can tell."""
    assert apart('dsl', data(2, ignored=None), CE, only=term) > 1e-3


def test_the_contrast_differs():
    """And nothing else does: every other term of ESL is that of the large batch."""
    assert apart('dsl+ctr', data(3), only='loss_sce') < 1e-12
    assert apart('dsl+ctr', data(3), CE, only='decode.loss_ce') < 1e-10
    assert apart('dsl+ctr', data(3), only='loss_ctr') > 0.01


def test_why_the_contrast_differs():
    batches, used, filled = data(2), [], []
    many = prepared('dsl+ctr')

    def look():
        used.append(many.diagnostics.pop()['anchors'])
        filled.append(int(many.part_memory.filled.sum()))

    step(many, batches, look)
    one = prepared('dsl+ctr')
    step(one, joined(batches))
    # queues fill between the micro-batches: the first one draws from less than the second
    assert 0 < filled[0] < filled[1] == int(one.part_memory.filled.sum())
    # the anchors of a class are averaged over each micro-batch, whatever their number
    assert used[0] != used[1]
    # the same features are in the queues in the end, in another order, and parts were assigned by
    # the same prototypes
    for a, b in zip(many.part_memory.queue, one.part_memory.queue):
        assert torch.allclose(*(q[q[:, 0].argsort()] for q in (a, b)), atol=1e-12)
    # and the prototypes then move once for each micro-batch: theta^k instead of theta
    sums = list(many.part_memory._pending)
    assert len(sums) == 2 and len(one.part_memory._pending) == 1
    start = one.part_memory.prototypes.flatten(0, 1).clone()
    many.part_memory.commit(), one.part_memory.commit()
    want = start
    for total, count in sums:
        mean = total / count.clamp(min=1)[:, None]
        want = torch.where(count[:, None] > 0, 0.99 * want + 0.01 * mean, want)
    assert torch.allclose(many.part_memory.prototypes.flatten(0, 1), want, atol=1e-12)
    assert not torch.allclose(one.part_memory.prototypes.flatten(0, 1), want, atol=1e-6)
