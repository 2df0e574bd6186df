"""Checksums: written, checked by the loader, and by sha256sum."""

import hashlib
import os
import shutil
import subprocess

import cv2
import pytest
from mmseg.registry import DATASETS

from mmseg_esl.datasets import BadDataError
from mmseg_esl.datasets.file_check import content_problem
from mmseg_esl.datasets.manifest import Manifest, write_manifest


def everything(data):
    return [str(path) for path in data.root.rglob('*.*g')]


@pytest.fixture
def manifest(data):
    path = data.root / 'sums' / 'SHA256SUMS'
    assert write_manifest(str(path), everything(data)) == 15
    return path


def build(data, manifest, **changes):
    return DATASETS.build(dict(data.semi_cfg(), manifest=str(manifest), **changes))


def flipped_but_readable(path):
    """A JPEG with a changed byte that decodes, to other pixels, without a complaint."""
    whole, old = path.read_bytes(), cv2.imread(str(path))
    for place in range(len(whole) // 2, len(whole) - 2):
        data = bytearray(whole)
        data[place] ^= 0x11
        path.write_bytes(data)
        pixels = cv2.imread(str(path))
        if content_problem(bytes(data)) is None and pixels is not None and (pixels != old).any():
            return
    raise AssertionError('no such byte')


def test_lines_are_those_of_sha256(data, manifest):
    lines = dict(reversed(line.split('  ', 1)) for line in manifest.read_text().splitlines())
    assert list(lines) == sorted(lines) and len(lines) == 15
    for name, hexes in lines.items():
        assert hexes == hashlib.sha256((manifest.parent / name).read_bytes()).hexdigest()


@pytest.mark.skipif(shutil.which('sha256sum') is None, reason='no sha256sum')
def test_sha256sum_understands_it(data, manifest):
    def check():
        return subprocess.run(['sha256sum', '-c', '--quiet', manifest.name], cwd=manifest.parent,
                              capture_output=True).returncode

    assert check() == 0
    flipped_but_readable(data.root / 'img/a1.jpg')
    assert check() == 1


def test_loader_finds_the_flipped_byte(data, manifest):
    flipped_but_readable(data.root / 'img/b1.jpg')
    semi = DATASETS.build(data.semi_cfg())
    semi[5]  # without a manifest nobody can know
    semi = build(data, manifest)
    semi[0], semi[4]
    with pytest.raises(BadDataError, match=r"b1\.jpg' cannot be used: its content is not that"):
        semi[5]
    semi = build(data, manifest, on_error='skip')
    assert os.path.basename(semi[5]['data_samples'].img_path) == 'b2.jpg'
    shutil.copy(data.root / 'ann/a0.png', data.root / 'ann/a1.png')
    with pytest.raises(BadDataError, match=r"mask '.*a1\.png' cannot.* manifest"):
        build(data, manifest)[1]


def test_moved_data_set(data, manifest, tmp_path):
    shutil.move(str(data.root), str(tmp_path / 'elsewhere'))
    data.root = tmp_path / 'elsewhere'
    semi = build(data, data.root / 'sums/SHA256SUMS')
    assert len([semi[i] for i in range(11)]) == 11


def test_file_that_is_not_listed(data, manifest):
    lines = [line for line in manifest.read_text().splitlines() if 'b0' not in line]
    manifest.write_text('\n'.join(lines) + '\n')
    with pytest.raises(BadDataError, match=r"b0\.jpg' .*is not in the manifest"):
        build(data, manifest)[4]


def test_refusals(tmp_path):
    with pytest.raises(FileNotFoundError, match='--write-manifest'):
        Manifest(str(tmp_path / 'no'))
    for text, words in (('', 'is empty'), ('a' * 63 + '  x\n', 'line 1'),
                        ('a' * 64 + '  x\nhello\n', 'line 2')):
        (tmp_path / 'sums').write_text(text)
        with pytest.raises(ValueError, match=words):
            Manifest(str(tmp_path / 'sums'))
    odd = tmp_path / 'a\nb.jpg'
    odd.write_text('x')
    with pytest.raises(ValueError, match='line break'):
        write_manifest(str(tmp_path / 'new'), [str(odd)])
    with pytest.raises(FileNotFoundError):
        write_manifest(str(tmp_path / 'new'), [str(tmp_path / 'gone.jpg')])
    assert not [p for p in tmp_path.iterdir() if 'manifest' in p.name or p.name == 'new']


def test_sums_made_by_sha256sum(tmp_path):
    (tmp_path / 'é x.jpg').write_bytes(b'abc')
    (tmp_path / 'sums').write_text(hashlib.sha256(b'abc').hexdigest().upper() + ' *./é x.jpg\r\n')
    found = Manifest(str(tmp_path / 'sums'))
    assert found.problem(str(tmp_path / 'é x.jpg'), b'abc') is None
    assert found.file_problem(str(tmp_path / 'é x.jpg')) is None
    assert 'SHA-256' in found.problem(str(tmp_path / 'é x.jpg'), b'abd')
