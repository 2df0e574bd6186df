"""Pseudo labels of a network that says the same everywhere, by all scales and flips."""
import numpy as np
import pytest
import tiny
import torch
from mmengine.config import Config, ConfigDict
from mmseg.registry import MODELS
from PIL import Image

from mmseg_esl.stages.images import Images
from mmseg_esl.stages.pseudo_labels import write_pseudo_labels
from mmseg_esl.stages.st_plus_plus import SCALES


@pytest.mark.parametrize('scales', [(1.0,), SCALES])
def test_its_class_is_the_label_of_every_pixel(tmp_path, scales):
    """Nothing of resizing, flipping and averaging moves an argmax that all of them have."""
    tiny.init_default_scope('mmseg')
    segmentor = MODELS.build(ConfigDict(tiny.segmentor(3))).eval()
    segmentor.dataset_meta = dict(classes=tiny.CLASSES, palette=tiny.PALETTE)
    segmentor.cfg = Config(dict(test_pipeline=[
        dict(type='LoadImageFromFile'), dict(type='PackSegInputs')]))
    with torch.no_grad():
        segmentor.decode_head.conv_seg.weight.zero_()
        segmentor.decode_head.conv_seg.bias.copy_(torch.tensor([0.1, 0.12, 0.11]))
    seen, encode = [], segmentor.encode_decode
    segmentor.encode_decode = lambda images, metas: seen.append(images) or encode(images, metas)
    rng = np.random.RandomState(0)
    Image.fromarray(rng.randint(0, 256, (33, 47, 3)).astype(np.uint8)).save(tmp_path / 'a.png')
    checkpoint = tmp_path / 'iter_1.pth'
    checkpoint.write_bytes(b'any')
    write_pseudo_labels(tmp_path, Images(str(tmp_path), ('a.png',)), segmentor, checkpoint,
                        scales, lambda text: None)
    label = np.asarray(Image.open(tmp_path / 'pseudo_labels/a.png'))
    assert label.shape == (33, 47) and (label == 1).all()
    # each scale once as it is and once mirrored
    assert len(seen) == 2 * len(scales) and all(
        torch.equal(other, image.flip(-1)) for image, other in zip(seen[::2], seen[1::2]))
    assert [image.shape[-1] for image in seen[::2]] == [int(47 * s + 0.5) for s in scales]
