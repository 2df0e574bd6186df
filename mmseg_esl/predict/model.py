"""The plain segmentor of a config and a checkpoint, of whichever kind either is."""
from __future__ import annotations

from pathlib import Path

from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.runner.checkpoint import CheckpointLoader
from mmseg.apis import init_model

from ..looks.names import dataset_config, names_and_palette
from ..looks.networks import one_network
from ..looks.palette import class_colours
from ..models.segmentors import main_head
from ..storage.dumped import read_buildable
from ..storage.finite_weights import refuse_infinite
from ..storage.fit import strip_module
from ..storage.keys import networks_in
from ..storage.resumable import newest_readable


def from_work_dir(work_dir, warn=print) -> tuple:
    """(Config, path of the newest whole checkpoint) of a training run's folder.

    Args:
        work_dir: the folder; mmengine leaves the run's whole config in it.
        warn: called with a text that names damaged checkpoints, if an older one is taken.

    Raises:
        ValueError: as :func:`config_in`, or no checkpoint.
        RuntimeError: none of the checkpoints can be read.
    """
    config = config_in(work_dir, warn)
    hook = config.get('default_hooks', {}).get('checkpoint', {})
    template = hook.get('filename_tmpl') or (
        'epoch_{}.pth' if hook.get('by_epoch', True) else 'iter_{}.pth')
    checkpoint = newest_readable(work_dir, work_dir, template, warn)
    if checkpoint is None:
        raise ValueError(f"{work_dir} holds no checkpoint named like '{template}'. Name config "
                         'and checkpoint instead')
    return config, checkpoint


def config_in(work_dir, warn=print) -> Config:
    """The config that a training run left in its folder, read as data: nothing in it is executed.

    Args:
        work_dir: the folder.
        warn: called with a text if it asks for imports, which are left out.

    Raises:
        ValueError: there is none or several, or it is no dump (``read_buildable``).
    """
    configs = sorted(Path(work_dir).glob('*.py'))
    if len(configs) != 1:
        found = ', '.join(path.name for path in configs) or 'none'
        raise ValueError(f'{work_dir} should hold one config (*.py), as a training run leaves it; '
                         f'found: {found}. Name config and checkpoint instead')
    return Config(read_buildable(configs[0], warn))


def load_segmentor(config, checkpoint, device: str = 'cpu', network: str | None = None,
                   cfg_options: dict | None = None):
    """Build the plain segmentor and fill it, by mmseg's ``init_model`` but strictly.

    A method's config gives the segmentor in it; a method's checkpoint one of its networks.
    Auxiliary heads, which predictions do not use, need not fit.

    Args:
        config: path or Config, of a method or of a plain segmentor.
        checkpoint: path, of a method or of a plain segmentor.
        device: as torch names it.
        network: name of one in a method's checkpoint. None: what the config predicts with, else
            the one that predicted in training.
        cfg_options: keys to override in the config.

    Returns:
        The segmentor in eval mode, with ``cfg`` and ``dataset_meta`` (``classes``, ``palette``).

    Raises:
        ValueError: the checkpoint is of another architecture, or has no such network (lists those
            it has).
    """
    cfg = config if isinstance(config, Config) else Config.fromfile(config)
    cfg.merge_from_dict(cfg_options or {})
    asked = network
    if 'segmentor' in cfg.model:
        network = network or cfg.model.get('semi_test_cfg', {}).get('predict_on')
        cfg.model = {'data_preprocessor': cfg.model.get('data_preprocessor'),
                     **cfg.model.segmentor}
    if cfg.model.get('data_preprocessor') is None:  # as mmengine's Runner does
        cfg.model.data_preprocessor = cfg.get('data_preprocessor')
    content = CheckpointLoader.load_checkpoint(
        str(checkpoint), map_location='cpu', logger='silent')
    state = content.get('state_dict', content)
    if networks_in(state):
        try:
            _, state = one_network(content, network)
        except ValueError as error:
            raise ValueError(f'{checkpoint}: {error} (--network)') from error
    elif asked:
        raise ValueError(f'{checkpoint} is of a plain segmentor and holds one network, not a '
                         f'{asked}: leave --network out')
    segmentor = init_model(cfg, device='cpu')
    fill(segmentor, strip_module(state), checkpoint)
    if not str(device).startswith('cuda'):
        segmentor = revert_sync_batchnorm(segmentor)
    head = main_head(segmentor)
    meta = content.get('meta', {}).get('dataset_meta') or {}
    segmentor.dataset_meta = names_and_colours(meta, cfg, head.num_classes)
    return segmentor.to(device).eval()


def fill(segmentor, state: dict, source) -> None:
    """Load a plain state dict; refuse what does not fit, which mmseg would leave at random.

    Raises:
        ValueError: names the first tensors that are missing, left over, of another shape or not
            finite.
    """
    own = segmentor.state_dict()
    wanted = {name: tuple(value.shape) for name, value in own.items() if _counts(name)}
    given = {name: tuple(value.shape) for name, value in state.items() if _counts(name)}
    faults = [f'{name} ({given.get(name, "missing")}, should be {wanted.get(name, "absent")})'
              for name in sorted({*wanted, *given}) if wanted.get(name) != given.get(name)]
    if faults:
        raise ValueError(
            f'{source} does not fit the config: {len(faults)} tensors differ: '
            + ', '.join(faults[:3]) + '. Take the config that the checkpoint was trained with')
    refuse_infinite(state, own, source)
    segmentor.load_state_dict({name: value for name, value in state.items()
                               if name in own and 'auxiliary_head.' not in name}, strict=False)


def _counts(name: str) -> bool:
    return 'auxiliary_head.' not in name and not name.endswith('num_batches_tracked')


def names_and_colours(meta: dict, cfg, num_classes: int) -> dict:
    """``classes`` and ``palette`` (RGB, one colour a class) for a segmentor.

    From the checkpoint, else the config's test or validation set; else numbers, and colours that
    can be told apart.

    Args:
        meta: the checkpoint's ``dataset_meta``.
        cfg: the config.
        num_classes: of the decode head.
    """
    dataset = dataset_config(cfg, 'test_dataloader', 'val_dataloader')
    classes, palette = names_and_palette(meta, dataset, num_classes)
    if palette is None:
        palette = class_colours(classes).tolist()
    return dict(classes=classes, palette=[list(colour) for colour in palette])
