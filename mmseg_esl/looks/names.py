"""Class names and palette of a trained model, and the data set of a config that tells them."""
from __future__ import annotations


def dataset_config(cfg, *loaders: str) -> dict:
    """Config of the data set of the first loader that the config has, {} if it has none.

    Args:
        cfg: mmengine Config.
        loaders: such as 'val_dataloader', in order of preference.

    Returns:
        Of data sets that are put together, the first one's.
    """
    found = next((cfg[name] for name in loaders if cfg.get(name)), {})
    dataset = found.get('dataset') or {}
    while 'datasets' in dataset or isinstance(dataset.get('dataset'), dict):
        dataset = dataset['datasets'][0] if 'datasets' in dataset else dataset['dataset']
    return dataset


def names_and_palette(meta: dict, dataset: dict, num_classes: int) -> tuple[tuple, list | None]:
    """Names and palette (RGB, one colour a class; None if there is none) of C classes.

    Args:
        meta: the checkpoint's ``dataset_meta``.
        dataset: config of a data set, asked where the checkpoint has not C names. With neither the
            classes are numbered: mmseg would take the names of any data set with as many classes
            (our choice).
        num_classes: C, of the decode head.
    """
    from mmseg.registry import DATASETS
    kind = DATASETS.get(dataset['type']) if isinstance(dataset.get('type'), str) else None
    for source in (meta, dataset.get('metainfo') or {}, getattr(kind, 'METAINFO', {})):
        if len(source.get('classes') or ()) == num_classes:
            palette = source.get('palette')
            fits = palette is not None and len(palette) == num_classes
            return tuple(source['classes']), palette if fits else None
    return tuple(f'class {c}' for c in range(num_classes)), None
