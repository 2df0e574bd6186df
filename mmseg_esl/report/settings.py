"""The keys of a config that people ask for, in the words of the method."""
from __future__ import annotations

from ..results.run import Run
from ..results.training import backbone, evaluation, kind, segmentor, title
from ..storage.config import flatten

ASIDE = ('type', 'segmentor', 'data_preprocessor', 'semi_test_cfg')  # of a model: said elsewhere


def settings(run: Run) -> dict[str, str]:
    """``{name: value}`` as texts, in the order of a page; defaults say that they are."""
    cfg, out = run.cfg, {}
    model, train = segmentor(cfg), cfg.get('train_cfg') or {}
    out['training'] = title(run)
    out['model'] = kind(model)
    out['backbone'] = backbone(cfg)
    out['head'] = _kinds(model.get('decode_head'))
    out['supervised loss'] = _losses(model.get('decode_head'))
    if 'segmentor' in cfg['model']:
        out.update(_method(run))
    out['batch'] = _batch(cfg, run.world_size)
    out['crop'] = _crop(cfg)
    out['optimiser'] = _optimiser(cfg)
    out['schedule'] = _kinds(cfg.get('param_scheduler'))
    out['iterations'] = str(train.get('max_iters') or _epochs(train))
    out['evaluation'] = evaluation(cfg)
    if run.load_from:
        out['started from'] = str(run.load_from)
    return out


def _method(run: Run) -> dict[str, str]:
    """Settings that count or were changed, as ``run.json`` names them; without it, as given."""
    said, out = run.method, {}
    if not said:
        given = {key: value for key, value in run.cfg['model'].items() if key not in ASIDE}
        flatten('semi_train_cfg', given.pop('semi_train_cfg', None), out)
        for key, value in given.items():
            flatten(key, value, out)
        return {key.replace('semi_train_cfg.', ''): str(value) for key, value in out.items()}
    for key, value in said['settings'].items():
        default = key in said['defaults']
        if key in said['labels'] or not default:
            out[said['labels'].get(key, key)] = f'{value} (default)' if default else str(value)
    return out


def _batch(cfg, world_size) -> str:
    loader = cfg.get('train_dataloader') or {}
    counts = loader.get('batch_sampler') or {}
    each = '' if world_size == 1 else f' in each of {world_size or "?"} processes'
    for prefix, where in (('total', ''), ('num', each)):
        labeled, unlabeled = (counts.get(f'{prefix}_{part}') for part in ('labeled', 'unlabeled'))
        if labeled is not None:
            return f'{labeled} labelled + {unlabeled or 0} unlabelled{where}'
    return f'{loader.get("batch_size", "–")}{each}'


def _crop(cfg) -> str:
    """Of the labelled images' RandomCrop, wherever in the nested data set it is."""
    def steps(value):
        if isinstance(value, dict):
            if kind(value) == 'RandomCrop':
                yield value
            for inner in value.values():
                yield from steps(inner)
        elif isinstance(value, (list, tuple)):
            for inner in value:
                yield from steps(inner)
    loader = cfg.get('train_dataloader') or {}
    found = next(steps(loader.get('dataset')), {}).get('crop_size')
    if found is None:
        return 'none'
    return '×'.join(map(str, found)) if isinstance(found, (list, tuple)) else f'{found}×{found}'


def _optimiser(cfg) -> str:
    found = dict((cfg.get('optim_wrapper') or {}).get('optimizer') or {})
    name = kind(found)
    found.pop('type', None)
    return ', '.join([name, *(f'{key} {value}' for key, value in found.items())])


def _kinds(value) -> str:
    several = value if isinstance(value, (list, tuple)) else [value]
    return ', '.join(kind(one) for one in several) or '–'


def _losses(head) -> str:
    heads = head if isinstance(head, (list, tuple)) else [head]
    return ', '.join(_kinds((one or {}).get('loss_decode')) for one in heads)


def _epochs(train) -> str:
    return f'{train["max_epochs"]} epochs' if train.get('max_epochs') else 'not in the config'
