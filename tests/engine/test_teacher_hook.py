"""TeacherEMAHook and DiagnosticsHook under a real Runner."""
import json
import types

import pytest
import tiny
import torch
from mmengine.hooks import Hook
from mmengine.model import MMDistributedDataParallel
from mmengine.model.wrappers import MMFullyShardedDataParallel

from mmseg_esl.engine import StepHook
from mmseg_esl.engine.hooks.step_hook import TeacherEMAHook
from mmseg_esl.models.segmentors import trained_heads


@pytest.fixture
def data(tmp_path):
    tiny.write_data(tmp_path / 'data')
    return tmp_path / 'data'


def copies(module):
    return {k: v.clone() for k, v in module.state_dict().items()}


@pytest.mark.parametrize('number, said', [
    (2, 'a label beyond the head'), (19, 'classes that do not exist')])
def test_another_number_of_classes_is_refused(tmp_path, data, number, said):
    with pytest.raises(ValueError, match=f'set has 3 classes .ground, thing, sky., decode_head.'
                       f'num_classes is {number}: .*{said}.*num_classes of decode_head'):
        tiny.run(tmp_path, data, [tiny.EMA], max_iters=1,
                 model=tiny.esl_cfg('dsl', num_classes=number))


def test_another_number_of_classes_of_the_other_heads_is_refused(tmp_path, data):
    cascade, extra = tiny.cascade(), tiny.segmentor(auxiliary=True)
    cascade['decode_head'][0]['num_classes'] = extra['auxiliary_head']['num_classes'] = 19
    for name, seg, semi in (('decode_head.0', cascade, {}),
                            ('auxiliary_head', extra, dict(auxiliary_loss=True))):
        with pytest.raises(ValueError, match=f'{name}.num_classes is 19: .*that do not exist'):
            tiny.run(tmp_path, data, [tiny.EMA], max_iters=1,
                     model=tiny.esl_cfg('dsl', segmentor=seg, **semi))
    heads = trained_heads(tiny.esl('dsl', segmentor=extra).main)
    assert set(heads) == {'decode_head'}  # where the other one learns nothing
    borders = tiny.segmentor(auxiliary=True)
    borders['auxiliary_head'].update(type='STDCHead', num_classes=2, boundary_threshold=0.1)
    heads = trained_heads(tiny.esl('dsl', segmentor=borders, auxiliary_loss=True).main)
    assert set(heads) == {'decode_head'}


@pytest.mark.parametrize('hook', ['StepHook', 'TeacherEMAHook'])
def test_shards_are_refused_before_they_are_initialised(tmp_path, data, hook):
    """Averages go tensor by tensor, and shards of two networks hold other pieces of them."""
    torch.distributed.init_process_group(
        'gloo', init_method=f'file://{tmp_path}/meet', rank=0, world_size=1)
    try:
        cfg = tiny.runner_cfg(tmp_path, data, [dict(type=hook)], model=tiny.esl_cfg('dsl'))
        runner = tiny.Runner(**cfg)
        runner.model = MMFullyShardedDataParallel(runner.model, device_id=torch.device('cpu'))
        with pytest.raises(ValueError, match='MMFullyShardedDataParallel cannot train a method.*'
                           "type='MMDistributedDataParallel'.*with_cp=True"):
            runner.train()
        wrapped = MMDistributedDataParallel(torch.nn.Linear(2, 2))
        StepHook().before_run(types.SimpleNamespace(model=wrapped))
    finally:
        torch.distributed.destroy_process_group()


def test_the_model_learns_how_many_labelled_images_there_are(tmp_path, data):
    """An image that is repeated is no further witness of the classes' shares."""
    loader = tiny.loader_cfg(data)
    labeled = loader['dataset']['labeled']
    for made, count in ((labeled, 3), (dict(type='RepeatDataset', times=5, dataset=labeled), 3),
                        (dict(type='ConcatDataset', datasets=[labeled, labeled]), 6)):
        loader['dataset']['labeled'] = made
        model = tiny.run(tmp_path, data, [tiny.EMA], max_iters=1, train_dataloader=loader,
                         model=tiny.method_cfg('ESLPlus', alignment_margin=1.0)).model
        assert model.labeled_images == count
        assert model.class_shares.first.sum() == pytest.approx(1)


# ----------------------------------------------------------------------------------------- EMA


def test_momentum_schedule_and_the_first_copy(tmp_path, data):
    watch = tiny.Watch(lambda r: (int(r.model.ema_steps), copies(r.model.teacher),
                       copies(r.model.student), r.model.iter))
    runner = tiny.run(tmp_path, data, [dict(type='TeacherEMAHook', momentum=0.6), watch],
                      max_iters=4, model=tiny.esl_cfg('dsl'))
    steps, teachers, students, iters = zip(*watch.found)
    assert steps == (1, 2, 3, 4) and iters == (0, 1, 2, 3)
    key = 'decode_head.conv_seg.weight'
    expected = students[0][key]
    for t, momentum in enumerate([0.0, 0.5, 0.6, 0.6]):
        expected = momentum * expected + (1 - momentum) * students[t][key]
        torch.testing.assert_close(teachers[t][key], expected)
    assert not torch.equal(students[3][key], students[0][key])
    logged = runner.message_hub.get_scalar('train/ema_momentum').data[0]
    assert logged.tolist() == pytest.approx([0.0, 0.5, 0.6, 0.6])
    assert not runner.optim_wrapper.optimizer._optimizer_step_post_hooks  # cleaned up


def test_what_a_plain_checkpoint_cannot_have_is_no_mismatch(tmp_path, data, capsys):
    plain = tiny.esl().student.state_dict()
    torch.save(dict(state_dict=plain), tmp_path / 'plain.pth')
    runner = tiny.runner(tmp_path / 'work', data, [dict(type='TeacherEMAHook'), tiny.PARTS],
                         max_iters=1, load_from=str(tmp_path / 'plain.pth'), log_level='INFO')
    runner.train()
    said = capsys.readouterr().out
    assert 'not in the checkpoint, so begun anew: ema_steps, projector, part_memory' in said
    assert 'do not match' not in said and 'missing keys' not in said
    lacking = {key: value for key, value in plain.items() if 'conv_seg' not in key}
    with pytest.raises(RuntimeError, match='conv_seg'):  # of a network it is one, as before
        runner.model.student.load_state_dict(lacking)
    whole = runner.model.state_dict()
    whole.pop('student.decode_head.conv_seg.weight')
    with pytest.raises(RuntimeError, match='Missing key.*"student.decode_head.conv_seg.weight"'):
        runner.model.load_state_dict(whole)


def test_resume_goes_on_with_the_schedule(tmp_path, data):
    hooks = [dict(type='TeacherEMAHook', momentum=0.9)]
    tiny.run(tmp_path, data, hooks, max_iters=3, model=tiny.esl_cfg('dsl'), save_every=3)
    second = tiny.run(tmp_path, data, hooks, max_iters=5, model=tiny.esl_cfg('dsl'),
                      load_from=str(tmp_path / 'work/iter_3.pth'), resume=True)
    logged = second.message_hub.get_scalar('train/ema_momentum').data[0]
    assert logged.tolist()[-2:] == pytest.approx([0.75, 0.8])
    assert second.model.ema_steps == 5


def test_accumulation_counts_optimiser_steps(tmp_path, data):
    watch = tiny.Watch(lambda r: (int(r.model.ema_steps), len(r.model.part_memory._pending)))
    tiny.run(tmp_path, data, [tiny.EMA, tiny.PARTS, watch],
             max_iters=4, wrapper=dict(accumulative_counts=2))
    assert [steps for steps, _ in watch.found] == [0, 1, 1, 2]
    assert [pending for _, pending in watch.found] == [1, 0, 1, 0]


class Skip(Hook):
    """Lets the optimiser refuse every other step, as the gradient scaler does on overflow."""

    def before_train(self, runner):
        wrapper = runner.optim_wrapper
        real, calls = wrapper.step, []

        def step(**kwargs):
            calls.append(1)
            if len(calls) % 2:
                real(**kwargs)

        wrapper.step = step


def test_skipped_steps_leave_no_trace(tmp_path, data):
    def look(runner):
        return (int(runner.model.ema_steps), copies(runner.model.part_memory),
                copies(runner.model.teacher), len(runner.model.part_memory._pending))

    watch = tiny.Watch(look)
    tiny.run(tmp_path, data, [tiny.EMA, tiny.PARTS, Skip(), watch], max_iters=4)
    assert [(steps, pending) for steps, *_, pending in watch.found] == [
        (1, 0), (1, 0), (2, 0), (2, 0)]
    for done, skipped in ((0, 1), (2, 3)):
        for part in (1, 2):
            a, b = watch.found[done][part], watch.found[skipped][part]
            assert all(torch.equal(a[k], b[k]) for k in a)
    a, b = watch.found[1][1], watch.found[2][1]
    assert (b['pushed'] >= a['pushed']).all() and (b['pushed'] > a['pushed']).any()
    assert not torch.equal(a['prototypes'], b['prototypes'])


def test_mmengines_own_average_is_refused(tmp_path, data):
    with pytest.raises(ValueError, match='EMAHook.*remove it'):
        tiny.run(tmp_path, data, [tiny.EMA, dict(type='EMAHook')], model=tiny.esl_cfg('dsl'))


def test_epochs_are_refused(tmp_path, data):
    with pytest.raises(ValueError, match='SemiTrainLoop'):
        tiny.run(tmp_path, data, [tiny.EMA], model=tiny.esl_cfg('dsl'),
                 train_cfg=dict(type='EpochBasedTrainLoop', max_epochs=1))


def test_two_hooks_of_this_kind_are_refused(tmp_path, data):
    with pytest.raises(ValueError, match='two StepHooks.*remove one'):
        tiny.run(tmp_path, data, [tiny.EMA, dict(type='StepHook')], model=tiny.esl_cfg('dsl'))


@pytest.mark.parametrize('model, predicts', [
    (dict(kind='MeanTeacher'), 'teacher'),
    (dict(kind='PSMT', test_cfg=dict(predict_on='both')), 'teacher'),
    (dict(kind='MeanTeacher', test_cfg=dict(predict_on='student')), 'student')])
def test_a_checkpoint_says_which_network_predicts(model, predicts):
    """Of several that predict together it is the first average."""
    checkpoint = dict(meta={})
    StepHook().before_save_checkpoint(types.SimpleNamespace(model=tiny.method(**model)), checkpoint)
    assert checkpoint['meta']['networks']['predicts'] == predicts


def test_the_ends_of_the_momentum_are_allowed():
    assert [TeacherEMAHook(momentum=end).momentum for end in (0, 1)] == [0, 1]


@pytest.mark.parametrize('momentum', [-0.1, 1.01])
def test_momentum_range(tmp_path, data, momentum):
    with pytest.raises(ValueError, match='momentum'):
        tiny.run(tmp_path, data, [dict(type='TeacherEMAHook', momentum=momentum)])


# --------------------------------------------------------------------------------- diagnostics


def test_diagnostics_reach_the_backends(tmp_path, data):
    hooks = [tiny.EMA, tiny.PARTS, dict(type='DiagnosticsHook')]
    runner = tiny.run(tmp_path, data, hooks, max_iters=4, interval=2, visualizer=dict(
        type='SegLocalVisualizer', vis_backends=[dict(type='LocalVisBackend')],
        name=str(tmp_path.name)))
    path = next((tmp_path / 'work').glob('*/vis_data/scalars.json'))
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    means = [line for line in lines if 'dominant/mean' in line]
    assert len(means) == 2
    for line in means:
        shares = [line[f'dominant/{n}'] for n in ('1', '2', '3_or_more')]
        assert sum(shares) == pytest.approx(1, abs=1e-3)
        assert 1 <= line['dominant/mean'] <= 3 and 1 / 3 <= line['confidence'] <= 1
        assert {'ema_momentum', 'anchors', 'parts_used', 'loss_sce', 'loss_ctr'} <= set(line)
    classes = [line for line in lines if 'class/parts_used/sky' in line]
    assert [line['step'] for line in classes] == [2, 4]
    assert all(f'class/anchors/{c}' in classes[0] for c in tiny.CLASSES)
    for at, line in zip(means, classes):  # the text log has the mean of the classes
        assert at['anchors'] == pytest.approx(
            sum(line[f'class/anchors/{c}'] for c in tiny.CLASSES) / 3, rel=1e-3)
    assert runner.model.diagnostics.pop() == {} and not runner.model.diagnostics.staging


def test_losses_are_logged_as_ever_but_read_at_log_time_only(tmp_path, data):
    logs, reads = [], []
    for name, extra in (('stock', []), ('ours', [dict(type='DiagnosticsHook')])):
        watch = tiny.Watch(lambda r: len(r.message_hub.log_scalars['train/loss'].data[0])
                           if 'train/loss' in r.message_hub.log_scalars else 0)
        tiny.run(tmp_path / name, data, [tiny.EMA, tiny.PARTS, *extra, watch], max_iters=5,
                 interval=2, visualizer=dict(
                     type='SegLocalVisualizer', vis_backends=[dict(type='LocalVisBackend')],
                     name=f'{tmp_path.name} {name}'))
        path = next((tmp_path / name / 'work').glob('*/vis_data/scalars.json'))
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        terms = ('loss', 'decode.loss_ce', 'decode.acc_seg', 'loss_sce', 'loss_ctr', 'step')
        logs.append([{k: line[k] for k in terms} for line in lines if 'loss' in line])
        reads.append(watch.found)
    assert len(logs[0]) == 2 and logs[0] == logs[1]
    assert reads == [[1, 2, 3, 4, 5], [0, 2, 2, 4, 4]]


def test_each_rank_draws_its_own_numbers(tmp_path, data, monkeypatch):
    """mmengine seeds all ranks alike."""
    drawn = []
    for rank, seed in ((0, 0), (1, 7), (0, 0)):
        monkeypatch.setattr('mmseg_esl.engine.hooks.step_hook.get_rank', lambda rank=rank: rank)
        with tiny.quiet():
            made = tiny.runner(tmp_path / 'work', data, [], model=tiny.method_cfg('Supervised'),
                               randomness=dict(seed=seed))
        torch.manual_seed(3)
        made.train_loop  # noqa: B018  (built on first use)
        made.optim_wrapper = made.build_optim_wrapper(made.optim_wrapper)
        torch.manual_seed(3)
        StepHook().before_train(made)
        assert made.model.seed == seed
        drawn.append(torch.rand(3))
    assert torch.equal(drawn[0], drawn[2]) and not torch.equal(drawn[0], drawn[1])
