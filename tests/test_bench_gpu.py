"""The GPU benchmark's parts, on a CPU and a small network; and what it says without a GPU."""
import importlib.util
import re
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from bench import measuring

from mmseg_esl.semi import Tap

TOOL = Path(__file__).parents[1] / 'dev/bench/gpu.py'


@pytest.fixture(scope='module')
def gpu():
    before = list(sys.path)
    spec = importlib.util.spec_from_file_location('bench_gpu', TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    sys.path[:] = before


@pytest.mark.parametrize('stride, size', [(8, 9), (16, 5)])
def test_output_stride(gpu, stride, size):
    model, _ = gpu.build(gpu.load(18, stride, 65), 'cpu')
    with torch.no_grad():
        feats = model.student.backbone(torch.randn(1, 3, 65, 65))
    assert feats[-1].shape[-2:] == (size, size)  # 65 pixels, rounded up
    dilations = {m.dilation[0] for m in model.student.decode_head.aspp_modules.modules()
                 if isinstance(m, torch.nn.Conv2d)}
    assert max(dilations) == 36 * 8 // stride  # the same reach in pixels


def test_floating_point_operations_of_a_step(gpu):
    """Per image 3F for the student and F for the teacher, F counted by hand, and a little more."""
    counted = gpu.count_flops(gpu.load(18, 8, 65), 'cpu', gpu.make_batch(1, 1, 65))
    model, _ = gpu.build(gpu.load(18, 8, 65), 'cpu')
    flops = []

    def count(conv, args, out):  # two for each weight that each output pixel sees
        flops.append(2 * out[:, 0].numel() * conv.weight.numel())

    for module in (*model.student.modules(), *model.projector.modules()):
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(count)
    with torch.no_grad():
        model.see('student', torch.randn(2, 3, 65, 65),
                  tap=Tap(model.embedding, model.projector))
    assert 1 < counted / (4 * sum(flops)) < 1.05


def test_measure_every_setting_that_a_cpu_has(gpu):
    batch = gpu.make_batch(1, 1, 65)
    cfg = gpu.load(18, 16, 65)
    row = gpu.measure(cfg, 'cpu', batch, rounds=1, warmup=1, channels_last=True, fused=True,
                      compiled=dict(backend='eager'))
    assert cfg.optim_wrapper.optimizer.fused
    assert row['seconds'] > 0 and row['floor'] > 0
    assert row['images_per_second'] == pytest.approx(2 / row['seconds'])
    assert row['peak_bytes'] is None and row['waits'] is None
    shown = gpu.line(dict(row, network='R18-d16', crop=65, images=2, setting='x', share=0.5,
                          peak_bytes=2 ** 30, waits='none'))
    assert shown.count('|') == gpu.HEADER.splitlines()[0].count('|')
    assert '| 1.0 | 50% | none |' in shown and f"{row['seconds'] / row['floor']:.2f}×" in shown
    shown = gpu.line(dict(network='R18-d16', crop=65, images=2, setting='x', failed='too big'))
    assert 'too big' in shown and shown.count('|') == gpu.HEADER.splitlines()[0].count('|')


def test_memory_that_runs_out_is_no_wait(gpu, monkeypatch):
    """It ends the row as 'out of memory', where a wait is named in its last column."""
    class Large(torch.nn.Module):
        parse_losses = None

        def data_preprocessor(self, batch, training):
            return {}

        def forward(self, mode):
            raise self.error

        def after_skipped_step(self):
            pass

    for name in ('synchronize', 'set_sync_debug_mode'):
        monkeypatch.setattr(torch.cuda, name, lambda *args: None)
    model, optimizer = Large(), SimpleNamespace(optim_context=lambda model: nullcontext())
    model.error = torch.cuda.OutOfMemoryError('CUDA out of memory')
    with pytest.raises(torch.cuda.OutOfMemoryError):
        gpu.waits(model, optimizer, {})
    model.error = RuntimeError('called a synchronizing CUDA operation\nat')
    message, place = gpu.waits(model, optimizer, {}).split(', at ')
    assert message == 'called a synchronizing CUDA operation'
    line = int(re.fullmatch(r'test_bench_gpu\.py:(\d+)', place)[1])
    assert 'raise self.error' in Path(__file__).read_text().splitlines()[line - 1]


def test_what_waits_is_named_by_the_line_of_the_package(gpu):
    from mmseg_esl.functional import soft_target
    with pytest.raises(ValueError, match='probs must be') as found:
        soft_target(torch.zeros(3))
    assert re.fullmatch(r'soft_label\.py:\d+', gpu.place(found.value))


def test_matmul_rate(gpu):
    slow, fast = (gpu.matmul_rate(torch.float32, 'cpu', size=256, rounds=3) for _ in range(2))
    assert 1e8 < slow < 1e13 and 1e8 < fast < 1e13


@pytest.mark.skipif(not torch.cuda.is_available(), reason='no GPU: CUDA alone tells of waits')
def test_no_wait_on_a_gpu(gpu):
    """torch.cuda.set_sync_debug_mode('error') from the teacher's forward to the end of the EMA."""
    model, optimizer = gpu.build(gpu.load(18, 8, 65), 'cuda')
    batch = gpu.make_batch(2, 2, 65, pin=True)
    gpu.whole.train_step(model, optimizer, batch)  # first calls may wait for libraries
    assert gpu.waits(model, optimizer, batch) == 'none'


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a GPU')
def test_without_a_gpu_it_says_so():
    done = subprocess.run([sys.executable, str(TOOL)], capture_output=True, text=True)
    assert done.returncode == 1 and 'measures a GPU and torch sees none' in done.stderr
    assert 'Traceback' not in done.stderr


def test_the_commit_where_there_is_no_git(tmp_path, monkeypatch):
    monkeypatch.setenv('PATH', str(tmp_path))
    assert measuring.commit() == '?'
