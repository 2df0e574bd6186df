"""Say what a run is, beside its results: the protocol of its lists, its method, commit and seed."""
from __future__ import annotations

import json
import os.path as osp
import subprocess
from pathlib import Path

import mmcv
import mmseg
from mmengine.dist import get_world_size, master_only
from mmengine.hooks import Hook
from mmseg.registry import HOOKS

from ... import __version__
from ...commands import command_line
from ...datasets.pseudo import PseudoLabeledDataset
from ...datasets.wrapped import infos, leaves
from ...splits import checksum, describe, image_id, is_published, protocol_of
from ...splits.protocol import PSEUDO
from ...storage.atomic import atomic_file
from ..describe import describe as describe_method
from ..ranks import on_main
from ..unwrap import unwrap

FILE, RUN_FILE = 'protocol.json', 'run.json'
NO_CHECKOUT = 'not a checkout'


@HOOKS.register_module()
class ProtocolHook(Hook):
    """Name the protocol of the labelled and unlabelled lists when training starts.

    It goes into the log, into the message hub (``protocol``: such as 'voc-classic/1-16', see
    ``mmseg_esl.splits.protocol_of``) and with it into every checkpoint, and as ``protocol.json``
    into the run's log folder: ``protocol``, ``published``, ``description``, and count and checksum
    of each list. ``check_same_protocol`` keeps a table to one protocol.

    Beside it lies ``run.json``: version and commit of this package, the versions of mmcv and mmseg
    (mmengine logs those of the others), the seed (drawn, if the config names none), the number of
    processes, the command, and what the method says of itself (``engine.describe``; a plain
    segmentor has no ``method``). ``tools/summarize.py`` and ``tools/report.py`` read both.

    A dataset that is no SemiDataset counts as labelled. Images with pseudo labels do not: the name
    then ends in '+pseudo', and ``pseudo_labels`` says whose they are. All of this is our choice.
    """
    priority = 'NORMAL'

    def before_train(self, runner) -> None:
        found = on_main(protocol_info, runner.train_dataloader.dataset)  # slow: read it once
        runner.message_hub.update_info('protocol', found['protocol'])
        runner.logger.info(f'lists of this run: {found["description"]}')
        write_info(osp.join(runner.log_dir, FILE), found)
        write_run(runner)


def protocol_info(dataset) -> dict:
    """What ``protocol.json`` holds, of a SemiDataset or of a labelled dataset alone."""
    whole = getattr(dataset, 'labeled', dataset)
    labeled, pseudo = image_ids(whole), pseudo_labels_in(whole)
    rest = getattr(dataset, 'unlabeled', None)
    unlabeled = None if rest is None else image_ids(rest)
    name = protocol_of(labeled, unlabeled)
    out = dict(protocol=name, published=is_published(name), description=describe(name),
               labeled=_list(labeled))
    if pseudo:
        out.update(protocol=name + PSEUDO, pseudo_labels=pseudo,
                   description=f'{describe(name)}, with {"; ".join(pseudo)}')
    if unlabeled is not None:
        out['unlabeled'] = _list(unlabeled)
        for shards in (leaf for leaf in leaves(rest) if getattr(leaf, 'unlisted', False)):
            out['unlabeled'].update(count=len(rest), sha256=shards.checksum())
    return out


def image_ids(dataset) -> list[str]:
    """The ids of a dataset's images, each once, as ``read_ids`` would give them.

    Those that a network labelled are left out.
    """
    ids: dict = {}
    for leaf, info in infos(dataset):
        if isinstance(leaf, PseudoLabeledDataset):
            continue
        folder = (getattr(leaf, 'data_prefix', None) or {}).get('img_path') or ''
        path, suffix = str(info['img_path']), getattr(leaf, 'img_suffix', None) or ''
        if folder and path.startswith(folder):
            path = path[len(folder):].lstrip('/\\')
        if suffix and path.endswith(suffix):
            path = path[:-len(suffix)]
        ids[image_id(path)] = None
    return list(ids)


def pseudo_labels_in(dataset) -> list[str]:
    """What the pseudo labels of a dataset say they are."""
    return list(dict.fromkeys(leaf.pseudo_labels for leaf, _ in infos(dataset)
                              if isinstance(leaf, PseudoLabeledDataset)))


def _list(ids) -> dict:
    return dict(count=len(ids), sha256=checksum(ids))


@master_only
def write_info(path: str, found: dict) -> None:
    with atomic_file(path) as file:
        file.write((json.dumps(found, indent=2) + '\n').encode())


@master_only
def write_run(runner) -> None:
    method = describe_method(unwrap(runner.model))
    write_info(osp.join(runner.log_dir, RUN_FILE), dict(
        mmseg_esl=__version__, commit=commit_of(Path(__file__).parent),
        versions=dict(mmcv=mmcv.__version__, mmseg=mmseg.__version__), seed=runner.seed,
        world_size=get_world_size(), command=command_line(),
        **(dict(method=method) if method else {})))


def commit_of(folder) -> str:
    """Commit of the git checkout that tracks this source folder, '-dirty' if files were changed.

    'not a checkout' for an installed package, also where its environment lies inside a checkout.
    """
    def git(*args):
        return subprocess.run(['git', '-C', str(folder), *args], check=True, timeout=30,
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout.decode()

    try:
        git('ls-files', '--error-unmatch', '__init__.py')
        return git('describe', '--always', '--dirty', '--abbrev=12', '--exclude=*').strip()
    except (OSError, subprocess.SubprocessError):
        return NO_CHECKOUT
