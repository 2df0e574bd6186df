"""What of a run's log the screen shows; the log file has all of it."""
from __future__ import annotations

import contextlib
import io
import logging
import os
import re
import sys
import time
import warnings

from mmengine.runner import Runner

from ..terminal import columns, fitted

WIDTH = 120  # columns, where the output is no terminal
CLOCK = '%H:%M:%S'
HANG = 10  # of a line that goes on, behind the clock
# For the file: dumps, what is said of every tensor, and what the next line says again.
DUMPS = re.compile(r'\n-{9}|Config:\n|Hooks will be executed|paramwise_options -- |Exp name: |'
                   'per class results:|Distributed training is not used, all SyncBatchNorm|'
                   'Loads checkpoint by ')
# Warnings of the stack about itself; nobody who trains can do anything about them.
OF_THE_STACK = re.compile(
    'The prefix is not set in metric class|'  # a network's name stands before its metrics
    '"FileClient" will be deprecated|"HardDiskBackend" is the alias|'  # mmengine's own use of them
    '`save_param_scheduler` is True but')  # a constant learning rate is a choice
OF_PYTHON = (
    '``build_[a-z]+`` would be deprecated',  # mmseg's own use of it
    'The draw is False',  # pictures of a validation are an option
    'When align_corners=',  # of sizes that the networks choose
    'For binary segmentation, we suggest',  # a softmax of two channels is what labels are made of
    "'pin_memory' argument is set as true")  # and there is no GPU: the stock configs have it set
OF_FROZEN_HEADS = ('Default ``avg_non_ignore`` is False', )  # the converter sets it where it counts
ITERATION = re.compile(r'(?:Iter|Epoch)\((train|val|test)\) *((?:\[[^]]*\])+) *(.*)')
FIRST = ('eta', 'time', 'memory', 'loss')


class ScreenRunner(Runner):
    """mmengine's Runner; its screen shows what a person reads, in lines that fit a terminal.

    The file of the log has everything, as it always had. With ``log_level='DEBUG'`` in the config
    the screen has it too.
    """

    def build_logger(self, log_level='INFO', log_file=None, **kwargs):
        logger = super().build_logger(log_level, log_file, **kwargs)
        if log_level not in ('DEBUG', logging.DEBUG):
            for message in OF_PYTHON + OF_FROZEN_HEADS * _means_are_over_valid_pixels(self.cfg):
                warnings.filterwarnings('ignore', message=message)
            warnings.formatwarning = warning_for_people
            for handler in logger.handlers:
                if not isinstance(handler, logging.FileHandler):
                    handler.addFilter(for_people)
                    handler.setFormatter(ScreenFormatter())
        logger.info(f'log, config and environment: {logger.log_file}')
        return logger

    def load_checkpoint(self, *args, **kwargs):
        """As mmengine's, which prints what it says, on every rank; here the log has it."""
        said = io.StringIO()
        try:
            with contextlib.redirect_stdout(said):
                return super().load_checkpoint(*args, **kwargs)
        finally:
            whence, _, odd = said.getvalue().partition('\n')
            self.logger.info(whence)
            if odd.strip():
                self.logger.warning(odd.strip())  # tensors that do not match


def _means_are_over_valid_pixels(cfg) -> bool:
    """Whether each loss of the heads that a method trains has the key."""
    model = cfg.get('model') or {}
    segmentor = model.get('segmentor') or {}
    heads = _each(segmentor.get('decode_head'))
    if (model.get('semi_train_cfg') or {}).get('auxiliary_loss'):
        heads += _each(segmentor.get('auxiliary_head'))
    losses = [loss for head in heads for loss in _each(head.get('loss_decode') or {})]
    return bool(losses) and all(loss.get('avg_non_ignore') for loss in losses)


def _each(one_or_several) -> list:
    """A config's dict, list of dicts or None, as a list."""
    if isinstance(one_or_several, (list, tuple)):
        return list(one_or_several)
    return [] if one_or_several is None else [one_or_several]


def warning_for_people(message, category, filename, lineno, line=None) -> str:
    """Python's warnings on the screen: what they say, without the line of code that says it."""
    text = f'{time.strftime(CLOCK)}  warning: {message}'
    return fitted(text, HANG, columns(sys.stderr)) + '\n'


def for_people(record: logging.LogRecord) -> bool:
    """Whether the screen shows a record."""
    text = record.getMessage()
    return not (DUMPS.match(text) or OF_THE_STACK.match(text))


class ScreenFormatter(logging.Formatter):
    """The time of day and the message: of an iteration's figures those that fit, tables whole."""

    def __init__(self):
        super().__init__(datefmt=CLOCK)

    def formatMessage(self, record: logging.LogRecord) -> str:
        text, clock = record.message, self.formatTime(record, self.datefmt)
        if text.startswith('\n'):  # a table
            return text[1:]
        width, found = columns(), ITERATION.fullmatch(text.strip())
        if record.levelno >= logging.WARNING:
            text = f'{record.levelname.lower()}: {text}'
        elif found:
            return figures(f'{clock}  {found[1]} {found[2]}', found[3], width or WIDTH)
        if width:  # a terminal stands in a folder, a file may be read from anywhere
            text = text.replace(os.path.join(os.getcwd(), ''), '')
        return fitted(f'{clock}  {text}', HANG, width)


def figures(line: str, text: str, width: int) -> str:
    """``line`` and the figures of mmengine's ``text`` behind it, the first ones first.

    Args:
        text: 'base_lr: 2e-4 lr: 2e-4  eta: 0:01:00  time: 0.3  loss: 0.4 ...'.
        width: what the line may have; ' ...' says that figures were left out.
    """
    items = [item.partition(': ')[::2] for item in re.split(' {2,}', text) if ': ' in item]
    for key, value in sorted(items, key=lambda item: _rank(item[0])):
        if _rank(key) == LEFT_OUT:
            continue
        key, value = ('lr', value.split()[-1]) if key == 'base_lr' else (key, value)
        more = f'  {key} {_short(value)}'
        if len(line) + len(more) + len(' ...') > width:
            return f'{line} ...'
        line += more
    return line


LEFT_OUT = 9


def _rank(key: str) -> int:
    if key in FIRST:
        return FIRST.index(key)
    if key == 'data_time' or re.search(r'(^|/)(IoU|Acc)\.', key):  # classes stand in the table
        return LEFT_OUT
    if key.endswith('mIoU'):
        return 4
    return 5 if 'loss' in key else 6 if key == 'base_lr' else 7


def _short(value: str) -> str:
    """'0.468400' -> '0.4684', '2.4572e-04' -> '0.0002457'; counts stay, and what is no number."""
    try:
        return value if value.isdigit() else f'{float(value):.4g}'
    except ValueError:
        return value
