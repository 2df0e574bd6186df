"""On a problem that can be learned in a minute, ESL learns it."""
import numpy as np
from commands import logged
from conftest import train
from project import write_project


def test_esl_learns(tmp_path):
    config = write_project(tmp_path, num_labeled=4, num_unlabeled=12, num_val=6)
    train(config, tmp_path / 'work', **{
        'train_cfg.max_iters': 80, 'train_cfg.val_interval': 80, 'param_scheduler.0.end': 120,
        'optim_wrapper.optimizer.lr': 0.2, 'optim_wrapper.optimizer.nesterov': True,
        'model.segmentor.decode_head.dropout_ratio': 0.0, 'default_hooks.logger.interval': 5,
        'default_hooks.checkpoint.interval': 80,
        # the average over all steps would still hold the first ones
        'model.semi_train_cfg.ema_momentum': 0.8})
    entries = logged(tmp_path / 'work')
    supervised = [entry['decode.loss_ce'] for entry in entries if 'decode.loss_ce' in entry]
    assert np.mean(supervised[-3:]) < 0.5 * supervised[0]
    last = [entry for entry in entries if 'teacher/mIoU' in entry][-1]
    # always guessing the background gives 20, guessing at random less than 15
    assert last['teacher/mIoU'] > 45
    assert last['teacher/mIoU'] > last['student/mIoU'] - 5
    confidence = [entry['confidence'] for entry in entries if 'confidence' in entry]
    assert confidence[-1] > confidence[0]
