"""What pictures are made from: a trained model, and images as its validation pipeline has them."""
from __future__ import annotations

import copy
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from ..commands import command
from .names import dataset_config, names_and_palette


@dataclass
class Trained:
    """A method with a checkpoint's weights, in eval mode.

    Attributes:
        model: the method; a bare SemiSegmentor around a plain segmentor where the config has one.
        name: of the checkpoint with its folder, for titles.
        classes: C names. palette: ``(C, 3)`` of the data set, or None.
        networks: names of the whole segmentors that the checkpoint holds; none if it is a plain
            segmentor's, with which all of the model's were filled.
    """
    model: torch.nn.Module
    name: str
    classes: tuple
    palette: list | None
    networks: tuple


@dataclass
class Scene:
    """One image.

    Attributes:
        stem: its file name without suffix. image: RGB ``(H, W, 3)`` uint8, as the network is shown
            it. data: what the model's data preprocessor takes.
        truth: ``(H', W')`` int64 at the size that is evaluated, or None.
    """
    stem: str
    image: np.ndarray
    data: dict = field(repr=False)
    truth: np.ndarray | None = None


def load_trained(cfg, checkpoint: str, device: str = 'cpu') -> Trained:
    """Build a config's model and load a checkpoint's weights, without executing anything in it.

    Args:
        cfg: mmengine Config, of a method or of a plain segmentor.
        checkpoint: of a method or of a plain segmentor.

    Raises:
        FileNotFoundError, RuntimeError, pickle.UnpicklingError: see storage.safe_loading.
        ValueError: the file holds no weights, or not those of this config.
    """
    from mmengine.registry import init_default_scope
    from mmengine.runner.checkpoint import CheckpointLoader

    import mmseg_esl.register  # noqa: F401 - registers every component

    from .networks import networks_of
    content = CheckpointLoader.load_checkpoint(checkpoint, map_location='cpu', logger='silent')
    state = content.get('state_dict') if isinstance(content, dict) else None
    if not state:
        raise ValueError(f'{checkpoint} has no state_dict: give a checkpoint that '
                         f'{command("train")} or {command("export")} wrote')
    init_default_scope(cfg.get('default_scope', 'mmseg'))
    held, predicts = networks_of(content)
    model = _build(cfg, held, predicts)
    _load(model, state, checkpoint)
    meta = content.get('meta', {}).get('dataset_meta') or {}
    classes, palette = names_and_palette(meta, _dataset(cfg), model.num_classes)
    path = Path(checkpoint).resolve()  # 'iter_40000' alone says little
    return Trained(model.to(device).eval(), f'{path.parent.name}/{path.stem}', classes, palette,
                   tuple(name for name in model.named(plain=True) if name in held))


def validation_scenes(cfg, limit: int) -> list[Scene]:
    """The first images of a config's validation set, with their truth.

    Raises:
        ValueError: the config has no val_dataloader.
    """
    from mmseg.registry import DATASETS
    loader = cfg.get('val_dataloader') or cfg.get('test_dataloader')
    if not loader:
        raise ValueError('the config has no val_dataloader to take images from: give --images')
    dataset = DATASETS.build(loader['dataset'])
    return [_scene(dataset[i]) for i in range(min(limit, len(dataset)))]


def file_scenes(cfg, images, masks=()) -> list[Scene]:
    """Scenes of image files, with a truth where a mask has the image's stem.

    The images pass the pipeline of the config's validation set; masks are read as its are.

    Args:
        images: files. masks: files.

    Raises:
        ValueError: a mask fits no image.
    """
    from mmcv.transforms import Compose
    pipeline, rules = _pipeline(cfg), {}
    found = {Path(mask).stem: str(mask) for mask in masks}
    stems = {Path(image).stem for image in images}
    if masks and not stems & set(found):
        raise ValueError(f'no mask has the stem of an image: masks {sorted(found)[:3]}, images '
                         f'{sorted(stems)[:3]}')
    if masks:
        rules = _label_rules(cfg)
    read = Compose(pipeline)
    blind = Compose([step for step in pipeline if 'LoadAnnotations' not in str(step['type'])])
    scenes = []
    for image in images:
        entry = dict(img_path=str(image), seg_fields=[], label_map=None, reduce_zero_label=False)
        mask = found.get(Path(image).stem)
        if mask is None:
            scenes.append(_scene(blind(entry)))
        else:
            scenes.append(_scene(read(dict(entry, seg_map_path=mask, **rules))))
    return scenes


def list_files(paths) -> list[Path]:
    """Files as they are, folders as the images below them (as training reads them), in order.

    Raises:
        FileNotFoundError: there is no such file, or a folder holds no image.
    """
    from ..datasets.files import IMAGE_SUFFIXES, find_images
    out = []
    for path in map(Path, paths):
        if path.is_dir():
            inside = find_images(str(path))
            if not inside:
                raise FileNotFoundError(f'{path} holds no image ({", ".join(IMAGE_SUFFIXES)})')
            out += [path / name for name in inside]
        elif path.is_file():
            out.append(path)
        else:
            raise FileNotFoundError(f'{path} does not exist')
    return out


def look_at(trained: Trained, scene: Scene):
    """The labeler's :class:`Look` of a scene, without what the preprocessor pads."""
    from .look import look
    data = trained.model.data_preprocessor(copy.deepcopy(scene.data), False)
    return _crop(look(trained.model, data['inputs']), scene.image.shape[:2])


@torch.no_grad()
def predict(trained: Trained, scene: Scene, which: str | None = None) -> np.ndarray:
    """``(H', W')`` classes as tools/test.py predicts them, sliding window and all.

    Args:
        which: name of a network; None: the one that is evaluated.
    """
    data = trained.model.data_preprocessor(copy.deepcopy(scene.data), False)
    model = trained.model
    network = model.predictor if which is None else model.named(plain=True)[which]
    sample, = network.predict(data['inputs'], data['data_samples'])
    return sample.pred_sem_seg.data[0].cpu().numpy()


def _build(cfg, held: dict, predicts: str | None):
    """The config's method; of a plain segmentor a frame with the networks of the checkpoint.

    Args:
        held: roles of the networks in the checkpoint, {} if it is a plain segmentor's.
        predicts: the one of them that predicted in training.
    """
    from mmengine.config import ConfigDict
    from mmseg.registry import MODELS

    from ..semi import SemiSegmentor
    from ..storage.config import offline
    given = ConfigDict(offline(copy.deepcopy(cfg.model)))  # weights come from the checkpoint
    if cfg.get('data_preprocessor'):
        given.setdefault('data_preprocessor', cfg.data_preprocessor)  # as mmengine's Runner does
    kind = MODELS.get(given['type'])
    if isinstance(kind, type) and issubclass(kind, SemiSegmentor):
        return MODELS.build(given)
    frame = type('Looking', (SemiSegmentor, ), dict(
        roles=held or SemiSegmentor.roles, title=given['type']))  # nobody trains it
    return frame(segmentor=given, semi_test_cfg=dict(predict_on=predicts) if held else None)


def _load(model, state: dict, source: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # what matters is checked below
        try:
            missing = model.load_state_dict(dict(state), strict=False).missing_keys
        except RuntimeError as error:  # shapes
            lines = str(error).strip().splitlines()
            raise ValueError(f'{source} does not fit the config: {lines[-1].strip()}') from error
    whole = model.named(plain=True)
    needed = [key for key in missing if key.split('.')[0] in whole
              and 'auxiliary_head' not in key and not key.endswith('num_batches_tracked')]
    if needed:
        raise ValueError(f'{source} lacks {len(needed)} tensors of the model, such as {needed[0]}: '
                         'give the config that it was trained with')
    memory = getattr(model, 'part_memory', None)
    of_parts = 'part_memory', *model.named(plain=False)
    if memory is not None and any(key.split('.')[0] in of_parts for key in missing):
        memory.initialised.fill_(False)  # half of what the parts need says nothing


def _dataset(cfg) -> dict:
    return dataset_config(cfg, 'val_dataloader', 'test_dataloader')


def _pipeline(cfg) -> list:
    """The validation set's pipeline, or the least that there can be."""
    dataset = _dataset(cfg)
    return copy.deepcopy(dataset.get('pipeline') or cfg.get('test_pipeline') or [
        dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), dict(type='PackSegInputs')])


def _label_rules(cfg) -> dict:
    """How the validation set reads masks (label_map, reduce_zero_label)."""
    from mmseg.registry import DATASETS
    given = _dataset(cfg)
    if not given:
        steps = [s for s in _pipeline(cfg) if str(s['type']).endswith('LoadAnnotations')]
        return dict(reduce_zero_label=bool(steps and steps[0].get('reduce_zero_label')))
    dataset = DATASETS.build(dict(given, lazy_init=True))
    return dict(label_map=dataset.label_map, reduce_zero_label=dataset.reduce_zero_label)


def _scene(packed: dict) -> Scene:
    inputs, sample = packed['inputs'], packed['data_samples']
    truth = sample.gt_sem_seg.data[0].long().numpy() if 'gt_sem_seg' in sample else None
    return Scene(Path(sample.img_path).stem, _shown(inputs),
                 dict(inputs=[inputs], data_samples=[sample]), truth)


def _shown(inputs) -> np.ndarray:
    """RGB ``(H, W, 3)`` uint8 of what a pipeline gives; of other images their first channels."""
    if inputs.shape[0] == 3:
        return inputs[[2, 1, 0]].permute(1, 2, 0).to(torch.uint8).numpy()  # mmcv reads BGR
    bands = inputs[:3 if inputs.shape[0] > 3 else 1].float()
    bands = bands.expand(3, -1, -1).permute(1, 2, 0)
    if inputs.dtype != torch.uint8:  # of any range
        bands = 255 * (bands - bands.min()) / (bands.max() - bands.min()).clamp(min=1e-9)
    return bands.to(torch.uint8).numpy()


def _crop(seen, size):
    """A Look without the padding at the right and below."""
    full = seen.probs.shape[-2:]
    if tuple(full) == tuple(size):
        return seen
    for name, value in vars(seen).items():
        if isinstance(value, torch.Tensor):
            rows, cols = (-(-wanted * have // whole)
                          for wanted, have, whole in zip(size, value.shape[-2:], full))
            setattr(seen, name, value[..., :rows, :cols])
    return seen
