"""PartInitHook under a real Runner, against K-means on features read from the files."""
import numpy as np
import pytest
import tiny
import torch
from mmengine.hooks import Hook
from PIL import Image
from sklearn.cluster import KMeans

from mmseg_esl.engine import PartInitHook


@pytest.fixture
def data(tmp_path):
    tiny.write_data(tmp_path / 'data')
    return tmp_path / 'data'


def features_by_class(model, data, names=('a0', 'a1', 'a2')):
    """Every labelled pixel's encoder feature, read from the files."""
    model.teacher.eval()
    found = {c: [] for c in range(3)}
    for name in names:
        image = np.array(Image.open(data / 'img' / f'{name}.png')).astype(np.float32)
        mask = np.array(Image.open(data / 'ann' / f'{name}.png'))
        x = torch.from_numpy((image - 127.5) / 127.5).permute(2, 0, 1)[None]
        with torch.no_grad():
            feats = model.teacher.backbone(x)[-1]
        feats = torch.nn.functional.interpolate(feats, size=mask.shape, mode='bilinear')[0]
        for c in found:
            found[c].append(feats[:, torch.from_numpy(mask == c)].T.numpy())
    return {c: np.concatenate(f) for c, f in found.items()}


class Grab(Hook):
    """Keeps the prototypes that the first iteration starts from."""

    priority = 'VERY_LOW'

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if not hasattr(self, 'found'):
            self.found = runner.model.part_memory.prototypes.clone().numpy()
            self.feats = features_by_class(runner.model, self.data)


def test_prototypes_are_kmeans_of_all_pixels(tmp_path, data):
    grab = Grab()
    grab.data = data
    runner = tiny.run(tmp_path, data, [tiny.EMA, tiny.PARTS, grab], max_iters=1)
    assert runner.model.part_memory.initialised
    for c, feats in grab.feats.items():
        assert len(feats) < 4096
        want = KMeans(2, n_init=20, random_state=1).fit(feats)
        got = grab.found[c]
        order = np.linalg.norm(want.cluster_centers_[:, None] - got[None], axis=2).argmin(1)
        assert sorted(order) == [0, 1]
        spread = np.linalg.norm(want.cluster_centers_[0] - want.cluster_centers_[1])
        apart = np.linalg.norm(want.cluster_centers_ - got[order], axis=1)
        assert (apart < 0.02 * spread).all(), (c, apart, spread)


def test_bounded_sample(tmp_path, data):
    grab = Grab()
    grab.data = data
    tiny.run(tmp_path, data, [tiny.EMA, dict(type='PartInitHook', max_samples=2),
             grab], max_iters=1)
    for c, feats in grab.feats.items():  # two samples, two parts: pixels themselves
        for row in grab.found[c]:
            assert np.abs(feats - row).max(axis=1).min() < 1e-4


def rewrite(data, change):
    for path in sorted((data / 'ann').glob('*.png')):
        mask = np.array(Image.open(path))
        change(mask)
        Image.fromarray(mask).save(path)


def test_too_few_pixels_are_named(tmp_path, data):
    def change(mask):
        mask[mask == 2] = 0
        mask[5, 5] = 2

    rewrite(data, change)
    cfg = tiny.esl_cfg(parts=5)
    with pytest.raises(ValueError, match="class 'sky' has 3 labelled pixels, fewer than the 5"):
        tiny.run(tmp_path, data, [tiny.EMA, tiny.PARTS], model=cfg)


def test_absent_class_warns_and_trains(tmp_path, data, monkeypatch):
    def change(mask):
        mask[mask == 1] = 255

    rewrite(data, change)
    said = []
    monkeypatch.setattr('mmengine.logging.MMLogger.warning',
                        lambda self, message, *a, **k: said.append(str(message)))
    grab = Grab()
    grab.data = data
    tiny.run(tmp_path, data, [tiny.EMA, tiny.PARTS, grab])
    assert any('no labelled pixel of thing' in line for line in said)
    assert not grab.found[1].any() and grab.found[0].any() and grab.found[2].any()


class Spoil(Hook):
    """The networks see class 1 everywhere; losses of one iteration are not finite."""

    def __init__(self, at):
        self.at = at

    def before_train(self, runner):
        for net in (runner.model.student, runner.model.teacher):
            net.decode_head.conv_seg.bias.data[1] = 9

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        conv = runner.model.student.decode_head.conv_seg
        if runner.iter == self.at:
            handle = conv.register_forward_hook(lambda module, args, out: out * float('nan'))
            self.handle = handle
        elif runner.iter == self.at + 1:
            self.handle.remove()


def test_an_absent_class_gets_parts_of_its_own(tmp_path, data):
    """One a step in which the teacher sees it; none in a skipped one; a resumed run the same."""
    def change(mask):
        mask[mask == 1] = 255

    rewrite(data, change)
    hooks = [tiny.EMA, tiny.PARTS, dict(type='FiniteGuardHook')]
    watch = tiny.Watch(lambda r: r.model.part_memory.prototypes[1].clone())
    tiny.run(tmp_path / 'a', data, [*hooks, dict(type='RunStateHook'), Spoil(1), watch],
             max_iters=5, save_every=2)
    assert [int(found.any(dim=1).sum()) for found in watch.found] == [1, 1, 2, 2, 2]
    assert torch.equal(watch.found[0], watch.found[1])
    one, two = watch.found[-1]
    assert torch.nn.functional.cosine_similarity(one, two, dim=0) < 1 - 1e-4
    again = tiny.Watch(watch.look)
    tiny.run(tmp_path / 'b', data, [*hooks, dict(type='RunStateHook'), again],
             max_iters=5, resume=True, train_cfg=dict(
                 type='SemiTrainLoop', max_iters=5), load_from=str(tmp_path / 'a/work/iter_2.pth'))
    assert len(again.found) == 3
    for mine, theirs in zip(again.found, watch.found[2:]):
        assert torch.equal(mine, theirs)


def test_a_checkpoint_that_holds_prototypes_is_kept(tmp_path, data, monkeypatch):
    hooks = [tiny.EMA, tiny.PARTS]
    first = tiny.run(tmp_path, data, hooks, save_every=2)
    want = first.model.part_memory.prototypes.clone()

    def never(*_):
        raise AssertionError('clustered again')

    monkeypatch.setattr('mmseg_esl.engine.hooks.part_init_hook.PartInitHook._prototypes', never)
    watch = Grab()
    watch.data = data
    tiny.run(tmp_path, data, [*hooks, watch], max_iters=3, resume=True,
             load_from=str(tmp_path / 'work/iter_2.pth'))
    assert np.array_equal(watch.found, want.numpy())


def test_begin_switches_the_contrast_on(tmp_path, data):
    watch = tiny.Watch(lambda r: bool(r.model.part_memory.active))
    hooks = [tiny.EMA, dict(type='PartInitHook', begin=2), watch]
    runner = tiny.run(tmp_path, data, hooks, max_iters=4)
    assert watch.found == [False, False, True, True]
    losses = runner.message_hub.get_scalar('train/loss_ctr').data[0]
    assert (losses[:2] == 0).all() and (losses[2:] > 0).all()


def test_a_missing_hook_is_named(tmp_path, data):
    with pytest.raises(RuntimeError, match='PartInitHook'):
        tiny.run(tmp_path, data, [tiny.EMA])


def test_bad_images_are_skipped_here_too(tmp_path, data):
    """The first reading of the labelled set is this one; a repeated set keeps its numbers."""
    (data / 'img/a1.png').write_bytes((data / 'img/a1.png').read_bytes()[:200])
    loader = tiny.loader_cfg(data)
    semi = loader['dataset']
    semi['labeled'] = dict(type='RepeatDataset', times=2, dataset=semi['labeled'])
    with pytest.raises(ValueError, match=r"a1\.png' cannot be used: it is truncated"):
        tiny.run(tmp_path / 'one', data, [tiny.EMA, tiny.PARTS], max_iters=1,
                 train_dataloader=loader)
    semi.update(on_error='skip', max_skips=1)
    runner = tiny.run(tmp_path / 'two', data, [tiny.EMA, tiny.PARTS], max_iters=1,
                      train_dataloader=loader)
    assert runner.train_dataloader.dataset.bad_samples.skipped() == [str(data / 'img/a1.png')]


def test_adaptive_number_of_parts(tmp_path, data, monkeypatch):
    """Parts beyond a class's number are never assigned, in a resumed run neither."""
    said = []
    monkeypatch.setattr('mmengine.logging.MMLogger.info',
                        lambda self, message, *a, **k: said.append(str(message)))
    hooks = [tiny.EMA, dict(type='PartInitHook', adaptive='silhouette')]
    cfg = tiny.esl_cfg(parts=4)
    runner = tiny.run(tmp_path / 'a', data, hooks, model=cfg, save_every=2, max_iters=2)
    memory = runner.model.part_memory
    counts = memory.part_mask.sum(dim=1)
    assert 'parts chosen: ' + ', '.join(
        f'{name} {n}' for name, n in zip(tiny.CLASSES, counts.tolist())) in said
    assert (counts >= 1).all() and counts.min() < 4
    resumed = tiny.run(tmp_path / 'b', data, hooks, model=cfg, max_iters=4, resume=True,
                       load_from=str(tmp_path / 'a/work/iter_2.pth')).model.part_memory
    assert torch.equal(resumed.part_mask, memory.part_mask)
    for found in (memory, resumed):
        unused = ~found.part_mask.flatten()
        assert not found.pushed[unused].any() and found.pushed[~unused].any()
        assert not found.prototypes[~found.part_mask].any()


def test_adaptive_takes_a_class_of_few_pixels(tmp_path, data):
    def change(mask):
        mask[mask == 2] = 0
        mask[5, 5] = 2

    rewrite(data, change)
    hooks = [tiny.EMA, dict(type='PartInitHook', adaptive='silhouette')]
    memory = tiny.run(tmp_path, data, hooks, model=tiny.esl_cfg(parts=5)).model.part_memory
    assert 1 <= memory.part_mask[2].sum() <= 3  # pixels


def test_adaptive_is_checked():
    with pytest.raises(ValueError, match="adaptive must be None or 'silhouette', got 'bic'"):
        PartInitHook(adaptive='bic')


def test_divergence_before_clustering_is_named(tmp_path, data):
    class Diverge(Hook):
        """A warm-up whose learning rate was too high."""
        priority = 'VERY_HIGH'

        def before_train(self, runner):
            for parameter in runner.model.teacher.backbone.parameters():
                parameter.data.fill_(float('nan'))

    with pytest.raises(ValueError, match="features of class 'ground' are not finite.*learning"):
        tiny.run(tmp_path, data, [tiny.EMA, tiny.PARTS, Diverge()], max_iters=1)


@pytest.mark.parametrize('corners', [False, True])
def test_features_are_those_of_the_files(tmp_path, corners):
    """Not of augmented images, none of padding, on the grid of the network's own resizes.

    Training's random numbers stay as they are.
    """
    tiny.write_data(tmp_path / 'data', labeled=2, size=40)
    data, seg = tmp_path / 'data', tiny.segmentor()
    for path in data.glob('*/a*.png'):
        Image.open(path).crop((0, 0, 24, 40)).save(path)
    seg['decode_head']['align_corners'] = corners
    seg['data_preprocessor']['test_cfg'] = dict(size_divisor=32)
    loader = tiny.loader_cfg(data)
    pipeline = loader['dataset']['labeled']['pipeline']
    pipeline[2].update(prob=1.0)  # RandomFlip
    with tiny.quiet():
        runner = tiny.runner(tmp_path / 'work', data, [], model=tiny.esl_cfg(segmentor=seg),
                             train_dataloader=loader)
        runner.model.init_weights()
    assert runner.train_dataloader  # which is built on first use
    before = torch.get_rng_state()
    found = PartInitHook()._extract(runner, 3)
    assert torch.equal(before, torch.get_rng_state())
    want = {c: [] for c in range(3)}
    for name in ('a0', 'a1'):
        image = np.array(Image.open(data / 'img' / f'{name}.png')).astype(np.float32)
        x = torch.zeros(1, 3, 64, 32)
        x[..., :40, :24] = torch.from_numpy((image - 127.5) / 127.5).permute(2, 0, 1)
        with torch.no_grad():
            feats = runner.model.teacher.eval().backbone(x)[-1]
        feats = torch.nn.functional.interpolate(feats, size=(64, 32), mode='bilinear',
                                                align_corners=corners)[0, :, :40, :24]
        mask = torch.from_numpy(np.array(Image.open(data / 'ann' / f'{name}.png')))
        for c in want:
            want[c].append(feats[:, mask == c].T)
    assert sum(r.seen for r in found) == 2 * 40 * 24
    for c, rows in want.items():
        rows = torch.cat(rows)
        assert found[c].seen == len(rows) == len(found[c].feats)
        apart = torch.cdist(found[c].feats.double(), rows.double()).amin(dim=1)
        assert apart.max() < 1e-4 * rows.norm(dim=1).mean()
