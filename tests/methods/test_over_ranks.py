"""What two ranks gather beside their means: shares, bounds and the statistics of batch norm."""
from __future__ import annotations

import json

import forked
import pytest
import tiny
import torch
from mmengine.dist import all_gather_object, get_rank

from mmseg_esl import stack


def numbers():
    """Confidences of two ranks, and which pixels are valid: more on one than on the other."""
    gen = torch.Generator().manual_seed(0)
    confidence = torch.rand(2, 3, 5, 7, generator=gen, dtype=torch.float64)
    return confidence, torch.rand(2, 3, 5, 7, generator=gen) < torch.tensor(
        [0.9, 0.4]).view(2, 1, 1, 1)


def work():
    torch.set_num_threads(1)
    stack.start_gloo('pytorch', timeout=120)
    confidence, valid = (x[get_rank()] for x in numbers())
    share, bound = tiny.method('CutMixSeg'), tiny.method('GTASeg', dropped=0.3)
    found = {}
    for average in (True, False):
        share.cfg.global_average = bound.cfg.global_average = average
        found[average] = (float(share._share(((confidence > 0.5) & valid).double(), valid)),
                          float(bound._bound(confidence, valid)), share.divisor is not None)
    share.student.backbone.stem[1].running_mean.fill_(1.0 + get_rank())
    share.after_optimizer_step(0)
    mean = share.student.backbone.stem[1].running_mean
    ranks = all_gather_object((found, mean.tolist()))
    if get_rank() == 0:
        print('RESULT', json.dumps([(rank[True], rank[False], mean) for rank, mean in ranks]))


def test_shares_bounds_and_statistics():
    ranks = forked.result(forked.on_ranks(work))
    confidence, valid = numbers()
    sure = (confidence > 0.5) & valid
    share = int(sure.sum()) / int(valid.sum())
    bound = float(confidence[valid].quantile(0.3))
    for rank, (together, alone, mean) in enumerate(ranks):
        assert together == [pytest.approx(share), pytest.approx(bound), True]
        own = confidence[rank][valid[rank]]
        assert alone == [pytest.approx(int(sure[rank].sum()) / len(own)),
                         pytest.approx(float(own.quantile(0.3))), False]
        assert mean == [1.5] * len(mean)  # of 1 and 2
