"""How far the cheap reading of the part mask (h x w) is from the literal one (H x W)."""
import torch
import torch.nn.functional as F

from mmseg_esl.functional import assign_parts, nearest, part_sums


def smooth(generator, channels, size):
    """Features as smooth as an encoder's of stride 8."""
    return F.interpolate(torch.randn(2, channels, 5, 5, generator=generator), size=size,
                         mode='bicubic', align_corners=False)


def test_readings_of_the_part_mask_are_close():
    g = torch.Generator().manual_seed(0)
    classes, parts = 4, 5
    encoder, embedding = smooth(g, 32, (16, 16)), smooth(g, 24, (32, 32))
    labels = smooth(g, classes, (128, 128)).argmax(dim=1)
    prototypes = torch.randn(classes, parts, 32, generator=g)

    low = assign_parts(encoder, nearest(labels, (32, 32)), prototypes)
    full = assign_parts(encoder, labels, prototypes)
    same = (low == nearest(full, (32, 32))).float().mean()
    assert same > 0.95  # measured: 0.974; they differ at the parts' edges only

    means = []
    for index in (low, full):
        sums, counts = part_sums(embedding, index, classes * parts)
        means.append((sums / counts.clamp(min=1)[..., None], counts))
    (mean_low, n_low), (mean_full, n_full) = means
    both = (n_low > 0) & (n_full > 0)
    cosine = F.cosine_similarity(mean_low, mean_full, dim=2)[both]
    weight = n_full[both] / n_full[both].sum()
    assert (cosine * weight).sum() > 0.99
    # and the literal reading counts sixteen times the pixels
    assert torch.isclose(n_full.sum() / n_low.sum(), torch.tensor(16.0))
    print(f'same part: {same:.4f}; cosine of part features: {(cosine * weight).sum():.4f}')
