"""Packaging of mmseg_esl.

torch and the mm* packages are not requirements on purpose: mmcv, mmcv-lite and the OneDL forks all
serve, under different distribution names, and a pin here would replace the user's. What is missing
or too old is said at import, by mmseg_esl.stack. requirements/cpu.txt pins a stack that works.
"""

import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
VERSION = re.search(r"__version__ = '([^']+)'",
                    (ROOT / 'mmseg_esl/__init__.py').read_text(encoding='utf-8')).group(1)
README = ROOT / 'README.md'
# What `mim` and `mmseg_esl::` names look for inside an installed package; dev/ stays in the
# checkout.
MIM = ('configs', 'tools', 'model-index.yml')
NOT_INSTALLED = shutil.ignore_patterns('__pycache__', '*.pyc')


class BuildWithMim(build_py):
    """Put configs and tools into ``mmseg_esl/.mim`` of what is built; the sources stay clean.

    An editable installation has none: there the checkout's own configs/ and tools/ are used.
    """

    def run(self):
        super().run()
        if self.editable_mode:
            return
        target = Path(self.build_lib) / 'mmseg_esl/.mim'
        shutil.rmtree(target, ignore_errors=True)  # of an earlier build
        target.mkdir(parents=True)
        for name in MIM:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, target / name, ignore=NOT_INSTALLED)
            else:
                shutil.copy2(ROOT / name, target / name)


EXTRAS = {
    # colour jitter, grey and blur on the device (KorniaStrongView)
    'strong': ['kornia'],
    # UnlabeledShards with shards on s3://, read by byte ranges
    'shards': ['fsspec', 's3fs'],
    # tools/dataset_converters/voc_aug.py: SBD's masks are MATLAB files
    'data': ['scipy'],
    # tools/report.py: a template that escapes every name, and the curves. torch and mmengine
    # bring both along, as a rule
    'report': ['jinja2', 'matplotlib>=3.6'],
    # logging to TensorBoard, when a config asks for it
    'tensorboard': ['tensorboard'],
    # tools/export_onnx.py: the file format, torch's exporter from 2.6 on, and the check
    'onnx': ['onnx', 'onnxscript', 'onnxruntime'],
}

setup(
    name='mmseg_esl',
    version=VERSION,
    description='Semi-supervised semantic segmentation (ESL) as a plugin for mmsegmentation',
    long_description=README.read_text(encoding='utf-8') if README.is_file() else '',
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    python_requires='>=3.8',
    cmdclass=dict(build_py=BuildWithMim),
    packages=find_packages(include=['mmseg_esl', 'mmseg_esl.*']),
    package_data={'mmseg_esl.splits': ['published.csv'], 'mmseg_esl.report': ['page.html']},
    install_requires=[
        'numpy',
        'pillow',
        'rich',  # progress bars
        'scikit-learn',  # K-means of the parts, before training
    ],
    entry_points={'console_scripts': ['mmseg-esl = mmseg_esl.commands:main']},
    extras_require={
        **EXTRAS,
        'all': sorted({package for extra in EXTRAS.values() for package in extra}),
        # the tests, the linter
        'dev': ['pytest', 'pytest-xdist', 'hypothesis', 'ruff'],
    },
)
