"""Look at a config's data and arithmetic before a long run: ``python tools/doctor.py CONFIG``.

Exit status: 0 no error was found, 1 there is one (with --strict: or a warning), 2 the doctor itself
could not work (no such config, wrong options, a manifest that cannot be written).
"""

import argparse
import os
import sys
from pathlib import Path

from cli_common import add_cfg_options, config_file, program, ready

from mmseg_esl.progress import track
from mmseg_esl.terminal import say


def parse_args():
    parser = argparse.ArgumentParser(
        description='Check data and config of a run before it starts.',
        epilog='Exit status: 0 no error, 1 an error (with --strict: or a warning), '
               '2 could not run.')
    parser.add_argument('config', help='config file')
    parser.add_argument('--gpus', type=int, default=1, metavar='N',
                        help='GPUs, or processes, that will train (default: 1)')
    parser.add_argument('--json', action='store_true', help='print one JSON object instead')
    parser.add_argument('--strict', action='store_true', help='exit with 1 on warnings too')
    parser.add_argument('--write-manifest', metavar='FILE',
                        help='write the checksums of all images and masks, and stop')
    parser.add_argument('--work-dir', help='folder of the run, for the disk space and the '
                                           'supervised run beside it (default: work_dirs/CONFIG)')
    add_cfg_options(parser)
    return parser.parse_args()


def load(args):
    from mmengine.config import Config
    cfg = Config.fromfile(config_file(args.config))
    cfg.merge_from_dict(args.cfg_options or {})
    cfg.work_dir = (args.work_dir or cfg.get('work_dir')
                    or os.path.join('work_dirs', Path(args.config).stem))  # as train.py does
    import mmseg_esl.register  # noqa: F401 - registers every component
    return cfg


def write(cfg, path: str) -> int:
    """Write the manifest; returns how many files it holds."""
    from mmseg_esl.datasets.manifest import write_manifest
    from mmseg_esl.doctor.lists import Lists
    files = Lists.of(cfg).files()
    return write_manifest(path, files, lambda found: track(found, 'checksums', len(files)))


def main() -> None:
    args = parse_args()
    ready(status=2)
    try:
        cfg = load(args)
        if args.write_manifest:
            number = write(cfg, args.write_manifest)
            print(f'wrote the checksums of {number} files to {args.write_manifest}')
            return
        from mmseg_esl.doctor import diagnose, exit_status
        from mmseg_esl.doctor.findings import as_json, show
        findings = diagnose(cfg, args.gpus, track)
    except Exception as error:
        say(f'{program()}: {type(error).__name__}: {error}', file=sys.stderr)
        sys.exit(2)
    if args.json:
        print(as_json(findings, args.config, args.strict))
    else:
        from rich.console import Console
        show(findings, Console())
    sys.exit(exit_status(findings, args.strict))


if __name__ == '__main__':
    main()
