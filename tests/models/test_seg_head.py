"""The paper's segmentation head: three blocks beside the projector's, then the classes."""
import tiny
import torch
import torch.nn.functional as F
from torch import nn

from mmseg_esl.models.decoder_tail import DecoderTail


def model(**changes):
    head = dict(tiny.segmentor()['decode_head'], type='ESLSegHead', dropout_ratio=0.5, **changes)
    config = tiny.esl_cfg(segmentor=tiny.segmentor(decode_head=head))
    config['embedding'] = 'decode_head.blocks'
    return tiny._built(config, 1.0, True)


def test_three_blocks_then_the_classes():
    head = model().student.decode_head.eval()
    decoded, given = torch.randn(2, 12, 8, 8), []
    x = decoded
    kinds = []
    for module in head.blocks.modules():  # in order, whatever holds them
        if isinstance(module, nn.Conv2d):
            x = F.conv2d(x, module.weight, module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            x = F.batch_norm(x, module.running_mean, module.running_var, module.weight,
                             module.bias)
        elif isinstance(module, nn.ReLU):
            x = x.clamp(min=0)
        else:
            continue
        kinds.append(type(module))
    assert kinds == 3 * [nn.Conv2d, nn.BatchNorm2d, nn.ReLU]
    want = F.conv2d(x, head.conv_seg.weight, head.conv_seg.bias)
    torch.testing.assert_close(head.cls_seg(decoded), want)
    head.cls_seg = given.append  # the decoder's output is what it is given
    feats = model().student.backbone(torch.randn(1, 3, 32, 32))
    head.forward(feats)
    assert given[0].shape == (1, 12, 8, 8)


def test_it_trains_side_by_side_with_the_projector():
    net = model()
    seen = {}
    for name, module in (('blocks', net.student.decode_head.blocks), ('projector', net.projector)):
        module.register_forward_pre_hook(lambda m, args, name=name: seen.update({name: args[0]}))
    losses = net.loss(*tiny.batch())
    assert torch.equal(seen['blocks'], seen['projector'])  # not behind the dropout
    assert losses['loss_ctr'] > 0
    tiny.total(losses).backward()
    for p in (*net.student.decode_head.blocks.parameters(), *net.projector.parameters()):
        assert p.grad is not None and p.grad.any()
    assert DecoderTail.of(net.student).name == 'blocks'


def test_kernel_and_number_of_blocks():
    blocks = model(num_blocks=2, block_kernel=3).student.decode_head.blocks
    assert [tuple(m.weight.shape) for m in blocks.modules() if isinstance(m, nn.Conv2d)] == \
        2 * [(12, 12, 3, 3)]
