"""Four training steps of ESL in many settings, as figures that can be compared bit for bit.

``python tests/recorded/esl_steps.py OUT.json`` writes them; ``esl_steps.json`` beside this file was
written by the package of 0.1.0 (commit 219eaf7), before methods shared a frame. One setting is
later, 'independent negatives, align_corners': 0.1.0 read labels beside the features' grid there;
tests/methods/test_esl_loss.py recomputes such steps.
"""
from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from pathlib import Path

import torch

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parents[1])]

VARIANTS = ('dsl+ctr', 'dsl', 'hard', 'hard+ctr', 'topk', 'topk+ctr', 'sup')
SETTINGS = {f'{variant} {kind}': dict(variant=variant, topk=2, joint_forward=kind == 'joint')
            for variant in VARIANTS for kind in ('joint', 'separate')}
SETTINGS.update({
    'draws by image': dict(sampling='image'),
    'warm-up, ramp, auxiliary loss': dict(warmup_iters=1, ramp_iters=2, auxiliary_loss=True),
    'parts at image size, capped anchors': dict(part_resolution='image', max_anchors=3),
    'independent negatives, align_corners': dict(negatives='independent'),
    'cascade': {},
})


def machine() -> dict:
    """What floating point results depend on."""
    return dict(torch=torch.__version__.split('+')[0],
                cpu=torch.backends.cpu.get_cpu_capability())


def trace(name: str) -> dict:
    """Losses of each step, digests of the state after them and of the random generators."""
    import tiny
    from mmengine.hooks import Hook

    keys = SETTINGS[name]
    torch.manual_seed(0)
    segmentor = tiny.segmentor(auxiliary=keys.get('auxiliary_loss', False))
    if name == 'cascade':
        segmentor = tiny.cascade()
    if 'align_corners' in name:
        segmentor['decode_head']['align_corners'] = True
    found = []

    class Note(Hook):
        priority = 'LOWEST'

        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            found.append({k: float(v) for k, v in sorted(outputs.items())})

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        tiny.write_data(root / 'data')
        config = tiny.esl_cfg(segmentor=segmentor, **dict(dict(confidence=0.5), **keys))
        hooks = [dict(type='TeacherEMAHook', momentum=0.9), dict(type='PartInitHook'),
                 dict(type='FiniteGuardHook'), Note()]
        made = tiny.run(root, root / 'data', hooks, model=config, max_iters=4)
    state = made.model.state_dict()
    return dict(losses=found, keys=len(state), state=digest(state), sums=sums(state),
                random=digest(dict(torch=torch.get_rng_state())))


def sums(state: dict) -> dict:
    """Sum of absolute values of each network and each memory."""
    out: dict = {}
    for key, value in sorted(state.items()):
        first = key.split('.')[0]
        out[first] = out.get(first, 0.0) + float(value.double().abs().sum())
    return out


def digest(tensors: dict) -> str:
    total = hashlib.sha256()
    for key, value in sorted(tensors.items()):
        total.update(key.encode())
        total.update(value.detach().cpu().contiguous().numpy().tobytes())
    return total.hexdigest()


if __name__ == '__main__':
    torch.set_num_threads(1)
    try:
        from mmseg_esl.stack import install
    except ImportError:  # the package of 0.1.0
        from mmseg_esl.compat import install
    install()
    out = dict(machine=machine(), steps={name: trace(name) for name in SETTINGS})
    Path(sys.argv[1]).write_text(json.dumps(out, indent=1) + '\n')
