"""The keys of a config that people ask for, in the words of the paper."""
from __future__ import annotations

from ..results.run import Run
from ..results.training import backbone, evaluation, kind, segmentor, title, variant

# Defaults of ESLTrainCfg, PartMemory and TeacherEMAHook, which would bring torch and mmseg along;
# a test compares them.
SEMI = {'mass': 0.95, 'topk': 5, 'sce_weight': 0.2, 'ctr_weight': 0.1, 'confidence': 0.95,
        'anchor_fraction': 0.1, 'num_negatives': 255, 'temperature': 0.5, 'warmup_iters': 0,
        'ramp_iters': 0}
MEMORY = {'num_parts': 5, 'queue_length': 256, 'momentum': 0.99}
EMA_MOMENTUM = 0.99
SYMBOLS = {'mass': 'η, mass of the dominant classes', 'topk': 'k of the top-k label',
           'sce_weight': 'λ₁, weight of the soft cross entropy',
           'ctr_weight': 'λ₂, weight of the contrast', 'confidence': 'ζ, confidence of anchors',
           'anchor_fraction': 'share of anchors', 'num_negatives': 'negatives',
           'temperature': 'temperature', 'warmup_iters': 'supervised warm-up, iterations',
           'ramp_iters': 'ramp, iterations', 'num_parts': 'K, parts of a class',
           'queue_length': 'q, entries of a queue', 'momentum': 'θ, momentum of prototypes'}
CONTRAST = {'ctr_weight', 'confidence', 'anchor_fraction', 'num_negatives', 'temperature'}


def settings(run: Run) -> dict[str, str]:
    """``{name: value}`` as texts, in the order of a page; defaults say that they are."""
    cfg, out = run.cfg, {}
    model, train = segmentor(cfg), cfg.get('train_cfg') or {}
    name = variant(cfg)
    out['training'] = title(cfg) + (f' (variant {name})' if name else '')
    out['model'] = kind(model)
    out['backbone'] = backbone(cfg)
    out['head'] = _kinds(model.get('decode_head'))
    out['supervised loss'] = _losses(model.get('decode_head'))
    if name:
        out.update(_method(cfg, name))
    out['batch'] = _batch(cfg, run.world_size)
    out['crop'] = _crop(cfg)
    out['optimiser'] = _optimiser(cfg)
    out['schedule'] = _kinds(cfg.get('param_scheduler'))
    out['iterations'] = str(train.get('max_iters') or _epochs(train))
    out['evaluation'] = evaluation(cfg)
    if run.load_from:
        out['started from'] = str(run.load_from)
    return out


def _method(cfg, name: str) -> dict[str, str]:
    given, label = cfg['model'].get('semi_train_cfg') or {}, name.partition('+')[0]
    contrast, out = name.endswith('+ctr'), {}
    for key, default in SEMI.items():
        used = (label == 'dsl' if key == 'mass' else label == 'topk' if key == 'topk' else
                contrast if key in CONTRAST else label != 'sup')
        if used:
            out[SYMBOLS[key]] = _given(given, key, default)
    memory = cfg['model'].get('part_memory') or {}
    for key, default in MEMORY.items() if contrast else ():
        out[SYMBOLS[key]] = _given(memory, key, default)
    hooks = [h for h in cfg.get('custom_hooks') or () if kind(h) == 'TeacherEMAHook']
    out['EMA momentum'] = _given(hooks[0], 'momentum', EMA_MOMENTUM) if hooks else 'no hook'
    return out


def _given(cfg, key: str, default) -> str:
    return str(cfg[key]) if key in cfg else f'{default} (default)'


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
