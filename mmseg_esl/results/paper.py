"""The paper's figure for a run, where the protocol is the same."""
from __future__ import annotations

import csv
from pathlib import Path
from typing import NamedTuple

from ..splits.published import PROTOCOLS
from .published import BACKBONES, Published, equal
from .run import Run
from .training import backbone, evaluation, kind, segmentor

COLUMNS = ('source', 'dataset', 'backbone', 'method', 'labelled', 'miou')
# of one data set each: family of protocols, and how the paper evaluates
DATASETS = {'voc_classic': ('voc-classic', 'centre crop 513'),
            'voc_blender': ('voc-blender-', 'centre crop 513'),
            'cityscapes': ('cityscapes-', 'sliding window 769, stride 513'),
            'coco': ('coco-', 'whole image')}
ABLATIONS = ('paper tables 2-4', 'supplement table 3')  # of the paper's own method alone


class Figure(NamedTuple):
    """mIoU in per cent, as the paper writes it; where it stands; what to know about it."""
    miou: str
    source: str
    remark: str


def read_figures(path) -> dict:
    """``{(dataset, backbone, method, labelled): (miou, source)}`` of a CSV with COLUMNS.

    Raises:
        ValueError: the file is missing or has other columns.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such file. --paper names the CSV of the paper's figures, "
                         'which is docs/results/paper_results.csv in the repository')
    with open(path, newline='', encoding='utf-8') as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != COLUMNS:
            raise ValueError(f'{path}: the columns must be {",".join(COLUMNS)}, and are '
                             f'{",".join(reader.fieldnames or ())}')
        return {(r['dataset'], r['backbone'], r['method'], int(r['labelled'])):
                (r['miou'], r['source']) for r in reader}


def figure(figures: dict, run: Run, published: list[Published] = ()) -> Figure | None:
    """What the paper reports for this cell, or None.

    Lists (published ones, of as many images), backbone, DeepLabV3+, method with its constants (the
    ``published_as`` of ``run.json``), and evaluation must all be the paper's. Schedule and batch
    need not be: they are in the config. ``published`` says where a figure that it quotes is from.
    """
    dataset = _dataset(run.protocol.get('protocol', '').split('/')[0])
    decoder = segmentor(run.cfg).get('decode_head')
    if (dataset is None or run.with_pseudo_labels  # it is no baseline
            or evaluation(run.cfg) != DATASETS[dataset][1]
            or not isinstance(decoder, dict)  # a cascade has several
            or kind(decoder) != 'DepthwiseSeparableASPPHead'):
        return None
    net = backbone(run.cfg)
    key = (dataset, BACKBONES.get(net, net), run.method.get('published_as'),
           run.protocol['labeled']['count'])
    found = figures.get(key)
    if found is None:
        return None
    own = {name.split()[0] for (_, _, name, _), (_, source) in figures.items()
           if source in ABLATIONS}
    quoted = ('' if key[2].split()[0] in own
              else _origin(published, dataset, *key[1:], found[0]))
    return Figure(*found, f'{_remark(dataset)} {quoted}'.strip())


def _origin(published, dataset, net, method, labelled, miou) -> str:
    """The baselines in one column of its tables are not of one code, nor of one family of lists."""
    said = ('It is a baseline, which the paper quotes, and its baselines come from several codes '
            'and families of lists')
    found = equal(published, method, net, dataset, labelled, miou)
    if not found:
        return f'{said}; where this figure comes from is not recorded here.'
    return f'{said}; the same figure is {"; ".join(map(str, found))}.'


def _dataset(protocol: str) -> str | None:
    """The paper's name of a published protocol's data set; a name that ends in '-' is a prefix."""
    for name, (family, _) in DATASETS.items():
        if protocol in PROTOCOLS and (protocol == family or (
                family.endswith('-') and protocol.startswith(family))):
            return name
    return None


def _remark(dataset: str) -> str:
    families = [name for name in PROTOCOLS if _dataset(name) == dataset]
    if len(families) == 1:
        return ''
    said = ('The paper does not say which lists it used' if dataset == 'voc_blender' else
            'Which lists the paper used is not recorded here')
    return f'{said}: {", ".join(families)} are all called so, and hold other images.'
