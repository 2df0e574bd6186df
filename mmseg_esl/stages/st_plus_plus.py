"""ST and ST++ (Yang et al., CVPR 2022): self-training by files, in the order of the paper."""
from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Callable

from mmengine.config import Config
from mmengine.registry import init_default_scope

from ..datasets.pseudo import read_record
from ..predict import Masker, load_segmentor
from ..storage.config import offline
from ..storage.dumped import read_config
from .images import Images, read_list, unlabeled_images, write_list
from .pseudo_labels import FILE, write_pseudo_labels
from .ranking import score, split
from .training import retrain_config, teacher_config

SCALES = (0.5, 0.75, 1.0, 1.5, 2.0)


@dataclass(frozen=True)
class Recipe:
    """What may be chosen; the defaults are the paper's.

    Args:
        plus: ST++: reliable images first. False: ST, all at once.
        snapshots: K of the first training, which tell what is reliable.
        scales: of test-time augmentation while labelling, each with both flips.
        relabel_all: let the second network label the reliable half too (our option).
    """
    plus: bool = True
    snapshots: int = 3
    scales: tuple = SCALES
    relabel_all: bool = False

    def __post_init__(self):
        if self.snapshots < 2:
            raise ValueError(f'snapshots={self.snapshots}: agreement needs 2 or more')
        if not self.scales or min(self.scales) <= 0:
            raise ValueError(f'scales={self.scales}: give one or more, above 0')

    @property
    def name(self) -> str:
        """As tables call what it makes: 'ST++' or 'ST', and what is not the paper's."""
        usual = Recipe(self.plus)
        changed = [f'{key.name}={getattr(self, key.name)}' for key in fields(self)
                   if getattr(self, key.name) != getattr(usual, key.name)]
        return ', '.join(['ST++' if self.plus else 'ST', *changed])


@dataclass
class StPlusPlus:
    """The stages of one run.

    Every network begins from its pretrained weights; only label files pass between stages. The
    last checkpoint labels, never the best: that would be chosen on validation labels.

    Args:
        cfg: from ``training.wrapped``. work_dir: holds the stages' folders.
        train: ``train(config file, folder)`` trains to the end, from where the folder stands.
        recipe: see Recipe. device: as torch names it. say: called with progress.
    """
    cfg: Config
    work_dir: Path
    train: Callable
    recipe: Recipe = field(default_factory=Recipe)
    device: str = 'cpu'
    say: Callable = print

    def __post_init__(self):
        init_default_scope(self.cfg.get('default_scope') or 'mmseg')
        dataset = self.cfg.train_dataloader.dataset
        self.images, self.metainfo, self.num_labeled = unlabeled_images(dataset)

    def stages(self) -> dict:
        """Name -> function of the stage's folder, for ``run_stages``."""
        if not self.recipe.plus:
            return {'1_teacher': lambda to: self.teacher(to, 1),
                    '2_label': lambda to: self.label(to, '1_teacher', self.images.names),
                    '3_retrain': lambda to: self.retrain(to, '2_label')}
        return {'1_teacher': lambda to: self.teacher(to, self.recipe.snapshots),
                '2_rank': self.rank,
                '3_label': lambda to: self.label(to, '1_teacher', self.ranked('reliable')),
                '4_retrain': lambda to: self.retrain(to, '3_label'),
                '5_label': lambda to: self.label(to, '4_retrain', self.left()),
                '6_retrain': lambda to: self.retrain(to, *self.labels_at_last())}

    def teacher(self, folder: Path, snapshots: int) -> list:
        cfg, steps = teacher_config(self.cfg, snapshots)
        kept = [folder / f'iter_{step}.pth' for step in steps]
        self._train(cfg, folder, kept)
        for path in set(folder.glob('iter_*.pth')) - set(kept):
            path.unlink()  # saved only to resume from
        return kept

    def rank(self, folder: Path) -> list:
        steps = teacher_config(self.cfg, self.recipe.snapshots)[1]
        paths = [self.work_dir / f'1_teacher/iter_{step}.pth' for step in steps]
        maskers = [Masker(self._segmentor(path)) for path in paths]
        classes = len(maskers[-1].segmentor.dataset_meta['classes'])
        scores = score(self.images, maskers, classes, folder / 'stability.csv')
        halves = zip(('reliable', 'unreliable'), split(scores))
        return [folder / 'stability.csv',
                *(write_list(folder / f'{half}.txt', names) for half, names in halves)]

    def label(self, folder: Path, by: str, names) -> list:
        path = self.work_dir / by / f'iter_{self.cfg.train_cfg.max_iters}.pth'
        images = Images(self.images.folder, tuple(names))
        return [write_pseudo_labels(folder, images, self._segmentor(path), path,
                                    self.recipe.scales, self.say)]

    def retrain(self, folder: Path, *labels: str) -> list:
        records = [(self.work_dir / stage / FILE).resolve() for stage in labels]
        count = sum(len(read_record(record)['masks']) for record in records)
        cfg = retrain_config(self.cfg, records, count, self.num_labeled, self.metainfo)
        if folder.name == list(self.stages())[-1]:  # the result, which tables call by its name
            cfg.self_training = self.recipe.name
        last = folder / f'iter_{cfg.train_cfg.max_iters}.pth'
        self._train(cfg, folder, [last])
        return [last]

    def ranked(self, half: str) -> list:
        return read_list(self.work_dir / f'2_rank/{half}.txt')

    def left(self):
        """What the second network labels: the reliable half keeps its labels."""
        return self.images.names if self.recipe.relabel_all else self.ranked('unreliable')

    def labels_at_last(self) -> list:
        return ['5_label'] if self.recipe.relabel_all else ['3_label', '5_label']

    def _train(self, cfg: Config, folder: Path, wanted: list) -> None:
        config = folder.with_name(f'{folder.name}.py')
        cfg.dump(str(config))
        self.train(config, folder)
        missing = [path.name for path in wanted if not path.is_file()]
        if missing:
            raise RuntimeError(f'{folder.name} has ended without {", ".join(missing)}: see its log')

    def _segmentor(self, checkpoint: Path):
        cfg = Config(read_config(checkpoint.parent.with_name(f'{checkpoint.parent.name}.py')))
        cfg.model = offline(cfg.model)
        return load_segmentor(cfg, checkpoint, self.device)
