"""Train, resume, test, predict and draw through the tools, a tiny ESL config on any stack.

``python tests/integration/smoke.py --work-dir DIR``
"""
import argparse
import os
import subprocess
import sys
from pathlib import Path

import torch
from project import ROOT, write_project


def tool(name: str, *args) -> str:
    """Run ``tools/<name>``; gives its output, or ends the program with the last of it."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get('PYTHONPATH')]))
    command = [sys.executable, str(ROOT / 'tools' / name), *(str(arg) for arg in args)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          env=dict(os.environ, OMP_NUM_THREADS='1', PYTHONPATH=path))
    if done.returncode:
        sys.exit(f'{done.stdout[-8000:]}\n{name} exits with {done.returncode}')
    return done.stdout


def expect(condition: bool, what: str, output: str) -> None:
    if not condition:
        sys.exit(f'{output[-8000:]}\n{what}')


def refuse_malicious(work) -> None:
    """A checkpoint that names a function to call is refused, and the function is not called."""
    class Evil:
        def __reduce__(self):
            return os.system, (f'touch {work / "marker"}', )

    torch.save(dict(state_dict={}, meta=Evil()), work / 'evil.pth')
    script = str(ROOT / 'tools/export_segmentor.py')
    done = subprocess.run([sys.executable, script, str(work / 'evil.pth'), str(work / 'out.pth')],
                          stderr=subprocess.STDOUT, stdout=subprocess.PIPE, text=True,
                          env=dict(os.environ, PYTHONPATH=str(ROOT)))
    refused = done.returncode != 0 and 'is refused: it names' in done.stdout
    expect(refused and not (work / 'marker').exists(), 'a malicious checkpoint got in', done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--work-dir', type=Path, required=True, help='an empty or new folder')
    folder = parser.parse_args().work_dir.resolve()
    config, work = write_project(folder), folder / 'work'

    said = tool('train.py', config, '--work-dir', work, '--cfg-options', 'train_cfg.max_iters=3',
                'train_cfg.val_interval=3')
    expect((work / 'iter_3.pth').is_file(), 'no checkpoint was written', said)
    expect('teacher/mIoU' in said and 'student/mIoU' in said, 'a network was not validated', said)
    expect('clustering encoder features' in said, 'the prototypes were not initialised', said)
    print('train ok', flush=True)

    said = tool('train.py', config, '--work-dir', work, '--resume')
    expect((work / 'iter_6.pth').is_file(), 'the resumed run wrote no checkpoint', said)
    expect('resumed epoch: 0, iter: 3' in said, 'the run began anew', said)
    expect('clustering encoder features' not in said, 'the prototypes were clustered again', said)
    print('resume ok', flush=True)

    said = tool('test.py', config, work / 'iter_6.pth', '--work-dir', folder / 'test')
    expect('mIoU: ' in said, 'no mIoU was reported', said)
    print('test ok', flush=True)

    refuse_malicious(work)
    print('refusal ok', flush=True)

    images = folder / 'data/images/val'
    said = tool('predict.py', work, images, '--out', folder / 'masks', '--save', 'index,overlay')
    masks = list((folder / 'masks/index').glob('*.png'))
    expect(len(masks) == len(list(images.iterdir())) > 0, 'not one mask an image', said)
    said = tool('report.py', work, '--pictures')
    expect((work / 'report.html').is_file(), 'no report was written', said)
    expect(len(list((work / 'pictures').glob('contact_sheet_*.png'))) == 5, 'no pictures', said)
    print('predict, visualize, report ok', flush=True)


if __name__ == '__main__':
    main()
