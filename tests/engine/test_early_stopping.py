"""mmengine's EarlyStoppingHook on our metrics: it stops, and a resumed run stops where it would."""
import pytest
import tiny

STOP = dict(type='EarlyStoppingHook', monitor='teacher/mIoU', rule='greater', patience=3,
            min_delta=1000.0)  # nothing ever improves by that much


def train(tmp_path, name, **changes):
    with tiny.quiet():
        runner = tiny.runner(
            tmp_path / name, tmp_path / 'data', [tiny.EMA, dict(type='RunStateHook'), STOP],
            max_iters=9, model=tiny.esl_cfg('dsl'), val=True, save_every=2, **dict(dict(
                train_cfg=dict(type='SemiTrainLoop', max_iters=9, val_interval=1)), **changes))
        runner.train()
    return runner.iter


def test_stops_and_resumes_with_what_it_has_counted(tmp_path):
    """The first validation sets the best value, three more without a better one stop; a run that
    was interrupted after two validations must not begin to count anew."""
    tiny.write_data(tmp_path / 'data')
    assert train(tmp_path, 'straight') == 4
    resume = dict(resume=True, load_from=str(tmp_path / 'straight/iter_2.pth'))
    assert train(tmp_path, 'resumed', **resume) == 4
    resume['load_from'] = str(tmp_path / 'straight/iter_4.pth')  # it had stopped: it does again
    assert train(tmp_path, 'again', **resume) == 4


def test_a_metric_that_no_network_has_is_refused(tmp_path, monkeypatch):
    tiny.write_data(tmp_path / 'data')
    monkeypatch.setitem(STOP, 'monitor', 'nobody/mIoU')
    monkeypatch.setitem(STOP, 'strict', True)
    with pytest.raises(RuntimeError, match='nobody/mIoU'):
        train(tmp_path, 'wrong')
