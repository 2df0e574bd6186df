"""Every cell of the paper's tables, of every method: composed as the page says, built, one step."""
import copy
import csv
import re
import shlex
from collections import defaultdict

import pytest
import tiny
import torch
from config_files import ALL
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS

import mmseg_esl.register  # noqa: F401
from mmseg_esl.splits.published import rows
from mmseg_esl.storage.config import hooks_in, kind

ROOT = ALL.parent
FOLDERS = {'ESL': 'esl', 'Sup baseline': 'supervised', 'MT': 'mean_teacher', 'CCT': 'cct',
           'GCT': 'gct', 'CutMix-Seg': 'cutmix_seg', 'CPS': 'cps', 'PSMT': 'ps_mt',
           'PseudoSeg': 'pseudoseg', 'PC2Seg': 'pc2seg', 'U2PL': 'u2pl', 'ReCo': 'reco',
           'GTA-Seg': 'gta_seg', 'ST++': 'supervised'}  # its stages train supervised
PARTITION = {(name, row.count): f'{name.replace("_", "-")}_{row.partition}'
             for name in ('voc_classic', 'voc_blender', 'cityscapes', 'coco') for row in rows()
             if row.part == 'labeled' and row.protocol in (
                 name.replace('_', '-'), f'{name.replace("_", "-")}-u2pl', f'{name}-unimatch')}
ABLATIONS = ('paper tables 2-4', 'supplement table 3')  # tests/test_paper_configs.py has them
CELLS = defaultdict(set)
with open(ROOT / 'docs/results/paper_results.csv', newline='') as file:
    for each in csv.DictReader(file):
        if each['source'] not in ABLATIONS:
            CELLS[FOLDERS[each['method']], each['backbone'], each['dataset']].add(
                int(each['labelled']))
SECTION = (ROOT / 'docs/reproduce.md').read_text().partition('### Any cell')[2]
TEXT = re.search(r'```python\n# my_cell.py\n(.*?)```', SECTION, re.S).group(1)
DEEPER = dict(option.split('=') for option in shlex.split(
    re.search(r'`--cfg-options (.*?)`', SECTION).group(1)))


def composed(folder, method, partition, backbone) -> Config:
    text = TEXT.replace('path/to/configs', ALL.as_posix()).replace('/reco/', f'/{method}/')
    text = text.replace('voc-classic_1-8', partition)
    own = 'method_optim' in (ALL / method / 'method.py').read_text()
    for name, line in (('supervised', 'train_dataloader = _base_.labeled_only'),
                       (own and method, 'optim_wrapper = _base_.method_optim'),
                       ('cct', "model['aux_decoders'] = dict(background_class=None)")):
        assert f'`{line}`' in SECTION
        if method == name and (name != 'cct' or 'cityscapes' in partition):
            text += f'{line}\n'
    path = folder / 'my_cell.py'
    path.write_text(text)
    cfg = Config.fromfile(str(path))
    if backbone == 'R101':
        cfg.merge_from_dict(dict(DEEPER, **{'model.segmentor.backbone.depth': int(
            DEEPER['model.segmentor.backbone.depth'])}))
    return cfg


def network_of(cfg) -> str:
    net = cfg.model.segmentor.backbone
    return {'xception65': 'Xception-65'}.get(net.get('model_name')) or f'R{net.depth}'


SMALL = dict(flaw_detector=dict(channels=4), projector=dict(channels=10),
             class_queues=dict(length=40, first_length=60),
             part_memory=dict(num_parts=2, queue_length=4))


def shrink(model):
    if model.type == 'GCT':
        model.flaw_detector = dict()
    for part in set(SMALL) & set(model):
        model[part].update(SMALL[part])
    segmentor = model.segmentor
    segmentor.pretrained = None
    segmentor.backbone = copy.deepcopy(tiny.segmentor()['backbone'])
    segmentor.decode_head.update(in_channels=64, channels=12, c1_in_channels=8, c1_channels=6)
    if segmentor.auxiliary_head:
        segmentor.auxiliary_head.update(in_channels=32, channels=8)


def test_every_row_of_the_tables_is_a_cell():
    assert sum(map(len, CELLS.values())) > 180
    assert {folder for folder, _, _ in CELLS} == set(FOLDERS.values())
    assert {(data, count) for (_, _, data), counts in CELLS.items() for count in counts} <= set(
        PARTITION)


@pytest.mark.parametrize('cell', sorted(CELLS), ids='-'.join)
def test_cell(cell, tmp_path):
    """All partitions compose; the smallest one takes a step, with a network of few channels."""
    method, backbone, dataset = cell
    for count in sorted(CELLS[cell], reverse=True):
        cfg = composed(tmp_path, method, PARTITION[dataset, count], backbone)
        assert cfg.num_labeled == count and network_of(cfg) == backbone
        assert cfg.train_dataloader.dataset.labeled.ann_file == cfg.lists.labeled.ann_file
    assert 'method_optim' not in cfg or {**cfg.method_optim}.keys() <= cfg.optim_wrapper.keys()
    needed = MODELS.get(cfg.model.type)
    assert set(needed.hooks_of(needed.parse_cfg(cfg.model.semi_train_cfg))) <= {
        kind(hook) for hook in hooks_in(cfg)}
    assert cfg.train_dataloader.batch_sampler.total_unlabeled == (
        0 if method == 'supervised' else 8)
    if any(other < backbone for m, other, data in CELLS if (m, data) == (method, dataset)):
        return  # of few channels ResNet-50 and -101 are the same
    shrink(cfg.model)
    init_default_scope('mmseg')
    torch.manual_seed(0)
    with tiny.quiet():
        model = revert_sync_batchnorm(MODELS.build(cfg.model))
        model.init_weights()
    if getattr(model, 'part_memory', None) is not None:
        tiny.begin(model)
    model.driven = True
    inputs, samples = tiny.batch(num_classes=cfg.model.segmentor.decode_head.num_classes,
                                 unlabeled=0 if method == 'supervised' else 2, size=33)
    loss = tiny.total(model.train().loss(inputs, samples))
    loss.backward()
    assert loss.isfinite() and loss > 0
    for name, net in model.named(trained=True, plain=True).items():
        assert all(p.grad is not None and p.grad.isfinite().all()
                   for p in net.decode_head.conv_seg.parameters()), name


DEEP = sorted({(method, min(data for m, b, data in CELLS if (m, b) == (method, 'R101')))
               for method, backbone, _ in CELLS if backbone == 'R101'})


@pytest.mark.parametrize('method, dataset', DEEP)
def test_full_size(method, dataset, tmp_path):
    """ResNet-101 with each method's own parts, on tensors without content."""
    count = min(CELLS[method, 'R101', dataset])
    cfg = composed(tmp_path, method, PARTITION[dataset, count], 'R101')
    init_default_scope('mmseg')
    with torch.device('meta'):
        model = MODELS.build(cfg.model)
    for net in model.named(plain=True).values():
        assert len(net.backbone.layer3) == 23  # of ResNet-50: 6
