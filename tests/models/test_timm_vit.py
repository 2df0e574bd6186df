"""DINOv2 and DINOv3 behind mmseg's decoders, against the papers' forward written out by hand."""
import math

import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS
from tiny import quiet

import mmseg_esl.register  # noqa: F401

pytest.importorskip('timm', reason='the backbone is of timm: pip install timm')
D, DEPTH, HEADS = 16, 3, 2
V2, V3 = 'vit_small_patch14_dinov2', 'vit_small_patch16_dinov3_qkvb'
PATCH, EPS = {V2: 14, V3: 16}, {V2: 1e-6, V3: 1e-5}


def vit(name, img_size=None, **changes):
    init_default_scope('mmseg')
    return MODELS.build(dict(
        type='TIMMPlainViT', model_name=name, img_size=img_size or 3 * PATCH[name],
        out_indices=(0, 2), embed_dim=D, depth=DEPTH, num_heads=HEADS, **changes)).eval()


def metas_file(name, grid=3) -> dict:
    """Random weights under the names of Meta's releases."""
    draw = torch.Generator().manual_seed(0)

    def tensor(*shape):
        return torch.randn(*shape, generator=draw) * 0.3

    state = {'cls_token': tensor(1, 1, D), 'patch_embed.proj.weight': tensor(
        D, 3, PATCH[name], PATCH[name]) / 10, 'patch_embed.proj.bias': tensor(D),
        'norm.weight': 1 + tensor(D), 'norm.bias': tensor(D)}
    if name == V2:
        state.update(mask_token=tensor(1, D), pos_embed=tensor(1, 1 + grid ** 2, D))
    else:
        state.update({'mask_token': tensor(1, D), 'storage_tokens': tensor(1, 4, D),
                      'rope_embed.periods': tensor(D // HEADS // 4)})
    for i in range(DEPTH):
        block = {'norm1.weight': 1 + tensor(D), 'norm1.bias': tensor(D),
                 'attn.qkv.weight': tensor(3 * D, D), 'attn.qkv.bias': tensor(3 * D),
                 'attn.proj.weight': tensor(D, D), 'attn.proj.bias': tensor(D),
                 'ls1.gamma': tensor(D), 'norm2.weight': 1 + tensor(D), 'norm2.bias': tensor(D),
                 'mlp.fc1.weight': tensor(4 * D, D), 'mlp.fc1.bias': tensor(4 * D),
                 'mlp.fc2.weight': tensor(D, 4 * D), 'mlp.fc2.bias': tensor(D),
                 'ls2.gamma': tensor(D)}
        if name == V3:  # keys have no bias there
            block['attn.qkv.bias'][D:2 * D] = 0
            block['attn.qkv.bias_mask'] = torch.ones(3 * D)
        state.update({f'blocks.{i}.{key}': value for key, value in block.items()})
    return state


def rotate(x, high, wide):
    """DINOv3's positions: angles 2 pi y / period, coordinates in (-1, 1), of patches alone."""
    width = x.shape[-1]
    periods = 100 ** (2 * torch.arange(width // 4) / (width // 2))
    y, across = torch.meshgrid((torch.arange(high) + 0.5) / high * 2 - 1,
                               (torch.arange(wide) + 0.5) / wide * 2 - 1, indexing='ij')
    place = torch.stack([y.flatten(), across.flatten()], 1)
    angle = (2 * math.pi * place[:, :, None] / periods).flatten(1).tile(2)
    first, second = x[..., 5:, :].chunk(2, -1)
    turned = x[..., 5:, :] * angle.cos() + torch.cat([-second, first], -1) * angle.sin()
    return torch.cat([x[..., :5, :], turned], -2)


def by_hand(name, state, images):
    """{block: its normed patch tokens as a map}, by Meta's names."""
    def norm(x, key):
        return F.layer_norm(x, (D,), state[f'{key}.weight'], state[f'{key}.bias'], EPS[name])

    def linear(x, key):
        return F.linear(x, state[f'{key}.weight'], state[f'{key}.bias'])

    x = F.conv2d(images, state['patch_embed.proj.weight'], state['patch_embed.proj.bias'],
                 stride=PATCH[name])
    num, high, wide = len(x), *x.shape[2:]
    front = [state['cls_token'], *([state['storage_tokens']] if name == V3 else [])]
    x = torch.cat([*(t.expand(num, -1, -1) for t in front), x.flatten(2).transpose(1, 2)], 1)
    if name == V2:
        x = x + state['pos_embed']
    out, first = {}, sum(t.shape[1] for t in front)
    for i in range(DEPTH):
        key = f'blocks.{i}.'
        qkv = linear(norm(x, key + 'norm1'), key + 'attn.qkv')
        q, k, v = qkv.reshape(num, -1, 3, HEADS, D // HEADS).permute(2, 0, 3, 1, 4)
        if name == V3:
            q, k = rotate(q, high, wide), rotate(k, high, wide)
        seen = (q @ k.transpose(-2, -1) / math.sqrt(D // HEADS)).softmax(-1) @ v
        seen = linear(seen.transpose(1, 2).reshape(num, -1, D), key + 'attn.proj')
        x = x + state[key + 'ls1.gamma'] * seen
        hidden = F.gelu(linear(norm(x, key + 'norm2'), key + 'mlp.fc1'))
        x = x + state[key + 'ls2.gamma'] * linear(hidden, key + 'mlp.fc2')
        out[i] = norm(x, 'norm')[:, first:].transpose(1, 2).reshape(num, D, high, wide)
    return out


@pytest.fixture(params=[V2, V3])
def name(request):
    return request.param


def from_file(tmp_path, name, state, **changes):
    torch.save(state, tmp_path / 'weights.pth')
    net = vit(name, init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'weights.pth')),
              **changes)
    with quiet():
        net.init_weights()
    return net


@torch.no_grad()
def test_metas_weights_give_metas_features(name, tmp_path):
    """Of the blocks that are asked for, each with the final norm, without other tokens."""
    state, side = metas_file(name), 3 * PATCH[name]
    images = torch.randn(2, 3, side, side)
    wanted = by_hand(name, state, images)
    found = from_file(tmp_path, name, dict(state))(images)
    for level, block in zip(found, (0, 2)):
        torch.testing.assert_close(level, wanted[block], rtol=1e-4, atol=1e-4)
    assert len(found) == 2 and not torch.allclose(wanted[0], wanted[2], atol=0.1)


@torch.no_grad()
def test_timms_names_and_our_own_load_too(name, tmp_path):
    net = from_file(tmp_path, name, metas_file(name))
    images = torch.randn(1, 3, 2 * PATCH[name], 4 * PATCH[name])
    again, whole = from_file(tmp_path, name, net.vit.state_dict()), vit(name)
    whole.load_state_dict(net.state_dict())
    for other in (again, whole):
        assert all(torch.equal(a, b) for a, b in zip(net(images), other(images)))


def test_positions_are_resized_to_the_crop(tmp_path):
    state = metas_file(V2, grid=5)
    kept = from_file(tmp_path, V2, dict(state)).vit.pos_embed
    grid = state['pos_embed'][:, 1:].reshape(1, 5, 5, D).permute(0, 3, 1, 2)
    grid = F.interpolate(grid, (3, 3), mode='bicubic', antialias=True)
    assert torch.equal(kept[:, :1], state['pos_embed'][:, :1])
    torch.testing.assert_close(kept[:, 1:].detach(), grid.flatten(2).transpose(1, 2))
    # a checkpoint of ours that was trained with another crop
    other = vit(V2, img_size=5 * 14)
    other.load_state_dict(vit(V2).state_dict())
    assert other.vit.pos_embed.shape == (1, 26, D)


@torch.no_grad()
def test_sides_that_are_no_multiples(name):
    net, patch = vit(name), PATCH[name]
    images = torch.randn(1, 3, 3 * patch - 2, 2 * patch + 3)
    resized = F.interpolate(images, (3 * patch, 2 * patch), mode='bilinear', align_corners=True)
    for level, same in zip(net(images), net(resized)):
        assert level.shape == (1, D, 3, 2) and torch.equal(level, same)
    assert net(torch.randn(1, 3, 3, 3))[0].shape == (1, D, 1, 1)


@pytest.mark.parametrize('spoil', [
    lambda state: state.pop('norm.bias'), lambda state: state.update({'norm.bias': torch.ones(7)}),
    lambda state: [state.pop(key) for key in list(state) if key != 'cls_token']])
def test_another_networks_file_is_refused(name, tmp_path, spoil):
    state = metas_file(name)
    spoil(state)
    count = 1 if len(state) > 1 else len(vit(name).vit.state_dict()) - 1
    with pytest.raises(ValueError, match=rf'not of {name}: {count} of its.*init_cfg.checkpoint'):
        from_file(tmp_path, name, state)


def test_what_is_loaded_without_the_backbone_is_let_be(name):
    whole = torch.nn.ModuleDict(dict(backbone=vit(name), head=torch.nn.Linear(2, 2)))
    weights = {f'head.{key}': torch.ones_like(value)
               for key, value in whole['head'].state_dict().items()}
    whole.load_state_dict(weights, strict=False)
    assert whole['head'].weight.eq(1).all()


def dpt(classes=3):
    init_default_scope('mmseg')
    head = MODELS.build(dict(
        type='MapDPTHead', in_channels=[D] * 4, in_index=[0, 1, 2, 3], embed_dims=D, channels=8,
        input_transform='multiple_select', post_process_channels=[4, 5, 6, 7], norm_cfg=None,
        dropout_ratio=0, num_classes=classes, align_corners=True)).eval()
    for p in head.parameters():
        torch.nn.init.normal_(p, std=0.3)
    return head


@torch.no_grad()
def test_dpt_by_hand():
    """Reassemble at strides 1/4, 1/2, 1 and 2 of a patch; fuse from coarse to fine; no norm."""
    head, levels = dpt(), [torch.randn(2, D, 4, 6) for _ in range(4)]
    w = dict(head.named_parameters())

    def conv(x, key, **kwargs):
        return F.conv2d(x, w[f'{key}.weight'], w.get(f'{key}.bias'), **kwargs)

    def unit(x, key):
        y = conv(x.relu(), f'{key}.conv1.conv', padding=1)
        return x + conv(y.relu(), f'{key}.conv2.conv', padding=1)

    maps = [conv(x, f'reassemble_blocks.projects.{i}.conv') for i, x in enumerate(levels)]
    for i, factor in ((0, 4), (1, 2)):
        key = f'reassemble_blocks.resize_layers.{i}'
        maps[i] = F.conv_transpose2d(maps[i], w[f'{key}.weight'], w[f'{key}.bias'], stride=factor)
    maps[3] = conv(maps[3], 'reassemble_blocks.resize_layers.3', stride=2, padding=1)
    maps = [conv(x, f'convs.{i}.conv', padding=1) for i, x in enumerate(maps)]
    out = 0
    for i, level in enumerate(reversed(maps)):
        key = f'fusion_blocks.{i}'
        out = level if i == 0 else out + unit(level, f'{key}.res_conv_unit1')
        out = F.interpolate(unit(out, f'{key}.res_conv_unit2'), scale_factor=2, mode='bilinear',
                            align_corners=True)
        out = conv(out, f'{key}.project.conv')
    out = conv(conv(out, 'project.conv', padding=1).relu(), 'conv_seg')
    torch.testing.assert_close(head(levels), out, rtol=1e-4, atol=1e-4)
    assert not any('norm' in type(m).__name__.lower() for m in head.modules())
