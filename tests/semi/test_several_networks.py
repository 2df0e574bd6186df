"""Methods with several trained segmentors are built from one config."""
import tiny
import torch
from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS


def test_pretrained_weights_of_two_networks(tmp_path):
    """mmseg writes ``pretrained`` into the config that it is given, and takes none that has it."""
    init_default_scope('mmseg')
    source = MODELS.build(tiny.segmentor())
    torch.save(dict(state_dict=source.backbone.state_dict()), tmp_path / 'backbone.pth')
    cfg = ConfigDict(type='CPS', segmentor=tiny.segmentor(
        pretrained=str(tmp_path / 'backbone.pth')))
    with tiny.quiet():
        model = MODELS.build(cfg)
        model.init_weights()
    for net in model.named(plain=True).values():
        for key, value in source.backbone.state_dict().items():
            assert torch.equal(net.backbone.state_dict()[key], value), key
    heads = [net.decode_head.conv_seg.weight for net in model.named(plain=True).values()]
    assert not torch.equal(*heads)  # which must start apart
    assert 'pretrained' not in cfg['segmentor']['backbone']
