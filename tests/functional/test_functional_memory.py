"""What the losses hold at once, beyond their inputs, at the paper's sizes."""
import sys
from pathlib import Path

import pytest
import torch

from mmseg_esl import functional as esl

sys.path.append(str(Path(__file__).parents[2] / 'dev'))
from bench.measuring import Work, peak_memory


@pytest.mark.parametrize('images, classes, size', [(1, 21, 257), (4, 21, 129), (1, 2, 257)])
def test_soft_label_and_its_loss_hold_three_times_the_logits(images, classes, size):
    logits = torch.randn(images, classes, size, size, requires_grad=True)
    teacher = 3 * torch.randn(images, classes, size, size)
    valid = torch.ones(images, size, size, dtype=torch.bool)
    box = esl.cutmix_mask(images, (size, size))

    def forward():
        target, count = esl.dynamic_soft_label(teacher.softmax(dim=1))
        target = esl.mix(target, box)
        return esl.soft_cross_entropy(logits, target, valid)

    held = peak_memory(Work(forward, [logits]))
    maps = 8 * images * size * size  # the number of dominant classes, a long of each pixel
    assert held - maps <= 3 * logits.numel() * logits.element_size()


def test_contrast_holds_200_megabytes():
    """16 images of 513 x 513, 512 channels at stride 4, a tenth of the pixels are anchors."""
    images, channels, side, num_classes, parts = 16, 512, 129, 21, 5
    embedding = torch.randn(1, channels, 1, 1).expand(images, channels, side, side).contiguous()
    embedding.requires_grad_()
    queue = torch.randn(num_classes * parts, 257, channels)
    filled = torch.full((num_classes * parts,), 256)
    classes = torch.randint(num_classes, (images * side * side,))
    part = classes * parts + torch.randint(parts, classes.shape)

    def forward():
        index, chosen = esl.sample_anchors(classes, num_classes)
        image, pixel = index.div(side * side, rounding_mode='floor'), index % (side * side)
        anchors = embedding.flatten(2)[image, :, pixel]
        return esl.part_contrast(anchors, classes[index], part[index], chosen, queue, filled,
                                 num_classes)[0]

    held = peak_memory(Work(forward, [embedding]))
    gradient = embedding.numel() * embedding.element_size()
    assert gradient < held <= gradient + 200 * 2 ** 20
