"""The benchmark: its rivals compute what they should, its counts hold, its tables come out.

Operations and waits are counted; no absolute time is ever judged.
"""
import json
from copy import deepcopy
from dataclasses import replace

import benchmark
import pytest
import tiny
import torch
import torch.nn.functional as F
from bench import measuring, naive, peers, pieces, recount, step, tables
from bench.measuring import Work

from mmseg_esl import functional as esl
from mmseg_esl.models import pixel_to_part

SMALL = pieces.Setting(classes=4, parts=2, crop=64, encoder=24, width=12, queue=6, negatives=9)


# ------------------------------------------------------------------------- what the rivals compute


def test_the_naive_soft_label_is_ours():
    s = replace(SMALL, classes=5)
    labels, probs = pieces.maps(s, s.crop, torch.Generator().manual_seed(1), 'cpu')
    logits = torch.randn_like(probs).requires_grad_()
    target, _ = esl.dynamic_soft_label(probs, mass=0.95)
    ours = esl.soft_cross_entropy(logits, target, labels >= 0)
    rival = naive.soft_label_loss(probs, logits, labels >= 0)
    torch.testing.assert_close(ours, rival)
    torch.testing.assert_close(*(torch.autograd.grad(x, logits)[0] for x in (ours, rival)))


def scene(s=SMALL, seed=1):
    gen = torch.Generator().manual_seed(seed)
    labels, _ = pieces.maps(s, 16, gen, 'cpu')
    features = torch.randn(s.images, s.encoder, 8, 8, generator=gen)
    return features, labels, torch.randn(s.classes, s.parts, s.encoder, generator=gen)


def test_the_naive_prototype_step_is_ours():
    features, labels, old = scene()
    new = pieces.prototype_step(features, labels, old)
    assert not torch.equal(new, old)
    torch.testing.assert_close(new, naive.prototype_step(features, labels, old))


def test_the_prototype_loop_takes_the_nearest_and_stays_on_the_sphere():
    features, labels, old = scene()
    old = F.normalize(old, dim=2)
    resized = F.interpolate(features, size=(16, 16), mode='bilinear')
    wanted = old.clone()
    for c in range(SMALL.classes):
        sums = torch.zeros(SMALL.parts, SMALL.encoder)
        for b, y, x in (labels == c).nonzero().tolist():
            pixel = F.normalize(resized[b, :, y, x], dim=0)
            sums[(old[c] @ pixel).argmax()] += pixel
        for k in range(SMALL.parts):
            if sums[k].any():
                mean = F.normalize(sums[k], dim=0)
                wanted[c, k] = F.normalize(0.9 * old[c, k] + 0.1 * mean, dim=0)
    new = peers.prototype_loop(features, labels, old, momentum=0.9, sinkhorn=0)
    torch.testing.assert_close(new, wanted)


def test_the_balanced_assignment_uses_all_prototypes_alike():
    cosine = torch.rand(400, 4) * 0.2
    cosine[:, 0] += 0.1  # by cosine alone the first would take most
    shares = peers.balance(cosine, rounds=50)
    torch.testing.assert_close(shares.sum(dim=1), torch.ones(400))
    torch.testing.assert_close(shares.sum(dim=0), torch.full((4,), 100.0), rtol=0.02, atol=0)


def test_info_nce_with_the_same_draws_is_our_contrast():
    gen = torch.Generator().manual_seed(2)
    classes, per_class, width = 3, 2, 6
    filled = torch.tensor([4, 0, 7, 2, 5, 1])
    queue = torch.randn(6, 8, width, generator=gen)
    parts = torch.randint(6, (40,), generator=gen)
    embeddings = torch.randn(40, width, generator=gen).requires_grad_()
    lots = torch.rand(40, dtype=torch.float64, generator=gen)
    ours, used = esl.part_contrast(
        embeddings, parts // per_class, parts, torch.ones(40, dtype=torch.bool), queue, filled,
        classes, num_negatives=9, negatives='independent', positive_draw=lots,
        generator=torch.Generator().manual_seed(3))
    slot, exists = esl.sample_positives(filled, parts, draw=lots)
    part, place, _ = esl.sample_negatives(filled, parts, 9,
                                          generator=torch.Generator().manual_seed(3))
    losses = naive.info_nce(embeddings, queue[parts, slot], queue[part, place], 0.5)
    own = parts // per_class
    rival = sum(losses[(own == c) & exists].mean() for c in range(classes)) / classes
    assert 0 < used.sum() < 40  # the part with an empty queue
    torch.testing.assert_close(ours, rival)
    torch.testing.assert_close(*(torch.autograd.grad(x, embeddings)[0] for x in (ours, rival)))


def test_the_naive_contrast_is_ours_where_draws_do_not_matter():
    """Two queues, each full of one vector: whatever is drawn is the same."""
    gen = torch.Generator().manual_seed(4)
    queue = torch.randn(2, 1, 6, generator=gen).expand(2, 5, 6)
    embedding = torch.randn(1, 6, 7, 7, generator=gen)
    classes = torch.randint(-1, 2, (1, 7, 7), generator=gen)
    filled = torch.tensor([5, 5])
    rival = naive.contrast(embedding, classes, classes, queue, filled, 2, fraction=1.0, num=9)
    flat = classes.flatten()
    ours, _ = esl.part_contrast(
        embedding.permute(0, 2, 3, 1).flatten(0, 2), flat.clamp(min=0), flat, flat >= 0, queue,
        filled, 2, num_negatives=9)
    torch.testing.assert_close(ours, rival)


def test_the_memory_bank_contrast_of_clean_classes():
    """Anchors equal their class's mean and are orthogonal to the bank: ln(1 + 50 exp(-1/t))."""
    classes = torch.arange(4).view(1, 2, 2)
    embedding = torch.eye(8)[:4].T.view(1, 8, 2, 2).clone().requires_grad_()
    probs = F.one_hot(classes, 4).permute(0, 3, 1, 2) * 0.9 + 0.025
    bank = peers.MemoryBankContrast([torch.eye(8)[4 + c:5 + c] for c in range(4)])
    loss = bank(embedding, embedding.detach(), classes, probs)
    wanted = torch.log(1 + 50 * torch.exp(torch.tensor(-2.0)))
    torch.testing.assert_close(loss, wanted)
    loss.backward()
    assert embedding.grad.any()


def test_the_memory_bank_takes_what_a_class_is_mistaken_for():
    """Five classes: rank 3 is the only one that enters a bank, up to the bank's size."""
    classes = torch.zeros(1, 2, 2, dtype=torch.long)
    probs = torch.tensor([0.5, 0.2, 0.15, 0.1, 0.05]).view(1, 5, 1, 1).expand(1, 5, 2, 2)
    bank = peers.MemoryBankContrast([torch.zeros(0, 3) for _ in range(5)])
    bank.last_rank, bank.size = 4, 3
    embedding = torch.randn(1, 3, 2, 2)
    assert bank(embedding, embedding, classes, probs) == 0  # nothing in class 0's own bank
    assert [len(rows) for rows in bank.bank] == [0, 0, 0, 3, 0]
    torch.testing.assert_close(bank.bank[3], embedding[0].flatten(1).T[1:])


def test_all_averages_agree():
    student = tiny.esl().student
    with torch.no_grad():
        for p in student.parameters():
            p.add_(torch.randn_like(p))
    teachers = [tiny.esl().student.requires_grad_(False) for _ in range(3)]
    for average, teacher in zip((esl.ema_update, naive.ema, peers.ema_loop), teachers):
        average(teacher, student, 0.9)
    for ours, other, peer in zip(*(t.parameters() for t in teachers)):
        torch.testing.assert_close(ours, other)
        torch.testing.assert_close(ours, peer)
    for ours, other in zip(*(t.buffers() for t in teachers[:2])):
        torch.testing.assert_close(ours, other)


# ------------------------------------------------------------------------------------ the ratios


@pytest.mark.parametrize('name, rival', [
    ('prototype step', 'ProtoSeg-shaped'), ('part contrast', 'U2PL-shaped')])
def test_ours_is_faster_by_far(name, rival):
    """Twice as fast, where docs/performance.md has five times and more: whatever else runs."""
    works = pieces.PIECES[name][0](replace(pieces.BASE, crop=129), 'cpu')
    times = measuring.alternate({key: works[key] for key in ('ours', rival)}, 3)
    assert measuring.ratio(times, rival, 'ours') > 2


# ------------------------------------------------------------------------------------ the counts


@pytest.fixture(scope='module')
def rows():
    return {name: {c: measuring.measure(build(replace(SMALL, classes=c), 'cpu'), 1) for c in (2, 9)}
            for name, (build, _) in pieces.PIECES.items()}


@pytest.mark.parametrize('name', list(pieces.PIECES))
def test_ours_never_waits_and_does_not_grow_with_the_classes(rows, name):
    few, many = (rows[name][c]['ours'] for c in (2, 9))
    assert few['waits'] == many['waits'] == 0
    assert few['forward'] == many['forward']


@pytest.mark.parametrize('name, rival, factor', [
    ('prototype step', 'ProtoSeg-shaped', 2), ('part contrast', 'U2PL-shaped', 2),
    ('part contrast', 'naive', 2)])
def test_the_peers_wait_and_grow_with_the_classes(rows, name, rival, factor):
    few, many = (rows[name][c][rival] for c in (2, 9))
    assert many['waits'] - few['waits'] >= 7  # seven more classes
    assert many['operations'] > factor * few['operations']
    assert many['operations'] > rows[name][9]['ours']['operations']


def test_the_average_is_a_handful_of_operations():
    works = pieces.ema(tiny.esl().student, 'cpu')
    counts = {name: measuring.count(work) for name, work in works.items()}
    assert all(count['waits'] == 0 for count in counts.values())
    assert counts['U2PL-shaped']['operations'] > 4 * counts['ours']['operations']


def test_peak_memory_is_the_allocators():
    x = torch.zeros(1000, requires_grad=True)

    def work():
        (x.double() * 2).sum()  # 8000 bytes for the copy, 8000 for the product, then a scalar

    assert 16000 <= measuring.peak_memory(work) < 16000 + 512
    forward = Work(lambda: (x * 3).sum(), [x])
    assert measuring.peak_memory(forward) >= 4000 and x.grad is None


# ------------------------------------------------------------------------------------- the step


@pytest.fixture(scope='module')
def whole():
    cfg = step.load(18, 65, 3)
    cfg.model.part_memory.queue_length = 8
    return (*step.build(cfg, 'cpu'), step.make_batch(1, 1, 3, 65))


def test_a_step_trains_on_all_terms(whole):
    model, optimizer, batch = whole
    found = model.loss(**model.data_preprocessor(deepcopy(batch), training=True))
    assert all(found[key] > 0 for key in ('decode.loss_ce', 'loss_sce', 'loss_ctr'))
    before = deepcopy(model.teacher.state_dict()), model.part_memory.prototypes.clone()
    step.train_step(model, optimizer, batch)
    assert any(not torch.equal(v, before[0][k]) for k, v in model.teacher.state_dict().items())
    assert not torch.equal(model.part_memory.prototypes, before[1])


def test_the_floor_reaches_every_weight_and_leaves_the_teacher_alone(whole):
    model, optimizer, batch = whole
    teacher = deepcopy(model.teacher.state_dict())
    reached = []
    handles = [p.register_post_accumulate_grad_hook(lambda p: reached.append(id(p)))
               for p in model.parameters() if p.requires_grad]
    step.Floor(model, optimizer, batch)()
    for handle in handles:
        handle.remove()
    assert len(reached) == len(handles) and {*map(id, model.projector.parameters())} <= {*reached}
    for key, value in model.teacher.state_dict().items():
        assert torch.equal(value, teacher[key]), key


def test_the_calls_of_a_step_are_found_and_run_again(whole):
    model, optimizer, batch = whole
    works = step.replays(model, optimizer, batch)
    assert {'soft_target', 'soft_cross_entropy', 'assign_parts', 'part_sums',
            'sample_anchors', 'part_contrast', 'update_prototypes', 'ema_update'} <= {*works}
    assert pixel_to_part.part_contrast is esl.part_contrast  # nobody listens any longer
    contrast, = works['part_contrast']
    assert contrast.leaves  # a gradient flows
    grads = []
    contrast.leaves[0].register_hook(lambda g: grads.append(g.abs().sum()))
    contrast()
    assert grads[0] > 0 and contrast.leaves[0].grad is None


def test_the_average_of_a_step_never_waits(whole):
    model, _, batch = whole
    counts = step.count_step(model, batch)
    assert counts['operations'] > 500 and not counts['ema_waits']


# ------------------------------------------------------------------------------------ the tables


def test_the_command_writes_results_tables_and_page(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(pieces, 'BASE', replace(SMALL, crop=48))
    monkeypatch.setattr(pieces, 'IMAGES', (1, 2))
    page = tmp_path / 'speed.md'
    marks = '\n\n'.join(f'<!-- table: {name} -->\nold\n<!-- end -->' for name in tables.TABLES)
    page.write_text(f'# Before\n\n{marks}\n\nAfter.\n')
    benchmark.main(['--out', str(tmp_path / 'speed'), '--only', 'growth', '--rounds', '1'])
    results = json.loads((tmp_path / 'speed/cpu.json').read_text())
    assert results['growth']['machine']['torch'] == torch.__version__
    assert [r['images'] for r in results['growth']['rows']] == [1, 2] * len(pieces.PIECES)
    text = page.read_text()
    assert text.startswith('# Before\n') and text.endswith('After.\n') and 'old' not in text
    assert '| part contrast | 1× | ' in text and '| growth, CPU | ' in text
    assert '| all, GPU | unmeasured |' in text and 'growth, GPU' not in text
    assert '| part contrast | 1× | ' in capsys.readouterr().out
    assert results == benchmark.read(tmp_path / 'speed')['cpu']


def test_rows_of_other_methods_stay(tmp_path):
    small = ['--out', str(tmp_path), '--only', 'step', '--depth', '18', '--crop', '33', '--batch',
             '2', '--classes', '3', '--rounds', '1', '--methods']
    path = tmp_path / 'cpu.json'
    benchmark.main([*small, 'supervised', 'mean_teacher'])
    text = path.read_text()
    commit = json.loads(text)['methods']['machine']['commit']
    path.write_text(text.replace(json.dumps(commit), '"an earlier one"'))
    first = json.loads(path.read_text())['methods']['rows']
    benchmark.main([*small, 'mean_teacher'])
    found = json.loads(path.read_text())['methods']
    assert found['machine']['commit'] == f'an earlier one, {commit}'
    rows = {row['method']: row for row in found['rows']}
    assert len(found['rows']) == 2 and rows['supervised'] == first[0]
    assert rows['mean_teacher']['times'] != first[1]['times']
    lines = tables.methods(dict(cpu=dict(methods=found), cuda={})).splitlines()
    assert [line.split(' ')[1] for line in lines[-2:]] == ['mean_teacher', 'supervised']
    # counted anew, what was counted and nothing else is as it was
    changed = deepcopy(found)
    for row in changed['rows']:
        row['counts'] = dict(operations=0, waits={}, ema_operations=0, ema_waits={})
    path.write_text(json.dumps(dict(methods=changed)))
    benchmark.main(['--out', str(tmp_path), '--recount', '--only', 'step', 'pieces'])
    assert json.loads(path.read_text())['methods'] == changed
    benchmark.main(['--out', str(tmp_path), '--recount'])
    assert json.loads(path.read_text())['methods'] == dict(found, counted=commit)
    assert f'; counts {commit} |' in tables.machines(
        dict(cpu=json.loads(path.read_text()), cuda={}))


def test_a_wrong_mark_is_named(tmp_path):
    page = tmp_path / 'page.md'
    for text in ('<!-- table: spede --><!-- end -->', '<!-- table: step -->'):
        page.write_text(text)
        with pytest.raises(ValueError, match='spede|step'):
            tables.fill(page, dict(cpu={}, cuda={}))


@pytest.mark.parametrize('text', [
    '{"step": {"rows": [', '[]', 'null', '"step"', '[' * 99999, '{"step": []}', '{"step": {}}',
    '{"other": 1}', '{"growth": {"rows": [1], "machine": {}, "options": {}}}'])
def test_results_that_cannot_be_read_are_not_overwritten(tmp_path, text):
    (tmp_path / 'cpu.json').write_text(text)
    with pytest.raises(SystemExit, match='cpu.json is not JSON as .*restore it, or remove it'):
        benchmark.main(['--out', str(tmp_path), '--only', 'growth', '--rounds', '1'])
    assert (tmp_path / 'cpu.json').read_text() == text


def test_a_folder_in_the_place_of_results_is_named(tmp_path):
    (tmp_path / 'cuda.json').mkdir()
    with pytest.raises(ValueError, match=r'cuda.json is not .*\(ValueError: no regular file\)'):
        benchmark.read(tmp_path)


def test_the_stored_figures_are_read():
    assert {'step', 'pieces', 'growth'} <= set(benchmark.read(
        measuring.ROOT / 'docs/performance')['cpu'])


@pytest.mark.parametrize('method', ['esl', 'u2pl'])
def test_the_stored_counts_are_those_of_the_code(method):
    """Or else: python dev/benchmark.py --recount."""
    found = json.loads((measuring.ROOT / 'docs/performance/cpu.json').read_text())['methods']
    if found['machine']['torch'].split('+')[0] != torch.__version__.split('+')[0]:
        pytest.skip('another torch may take other operators')
    row = next(row for row in found['rows'] if row['method'] == method and row['classes'] == 21)
    assert recount.of_step(row, 'cpu') == row['counts']


@pytest.mark.parametrize('given, said', [
    (['--recount', '--methods', 'all'], '--recount is of the rows that are there'),
    (['--recount', '--tables'], 'leave one of them out'),
    (['--rounds', '0'], "invalid positive value: '0'"), (['--batch', '-1'], 'invalid positive'),
    (['--classes', '0'], 'invalid positive'),
    (['--only', 'pieces', '--methods', 'all'], '--methods is of the sections step and methods')])
def test_options_that_would_not_count_are_refused(capsys, given, said):
    with pytest.raises(SystemExit):
        benchmark.parse_args(given)
    assert said in capsys.readouterr().err
