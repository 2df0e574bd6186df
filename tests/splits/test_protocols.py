"""Reading lists of every style, and recognising what they are."""

import csv
import doctest
import hashlib
import random
import sys
from pathlib import Path

import pytest
from published_lists import LISTS, needed

from mmseg_esl.datasets.files import IMAGE_SUFFIXES
from mmseg_esl.splits import (
    check_same_protocol,
    describe,
    find_pairs,
    image_id,
    protocol_of,
    read_ids,
)
from mmseg_esl.splits import published as reg
from mmseg_esl.splits.lists import SUFFIXES, checksum
from mmseg_esl.splits.verify import verify_folder, verify_pair

# ------------------------------------------------------------------------------------- styles


@pytest.mark.parametrize('entry, wanted', [
    ('2007_000032', '2007_000032'),
    ('JPEGImages/2007_000032.jpg SegmentationClass/2007_000032.png', '2007_000032'),
    ('/VOC2012/JPEGImages/2007_000032.jpg\t/VOC2012/x/2007_000032.png', '2007_000032'),
    ('leftImg8bit/train/ulm/ulm_000079_000019_leftImg8bit.png', 'ulm/ulm_000079_000019'),
    ('leftImg8bit/train/bad-honnef/bad-honnef_000000_000000_leftImg8bit.png '
     'gtFine/train/bad-honnef/bad-honnef_000000_000000_gtFine_labelTrainIds.png',
     'bad-honnef/bad-honnef_000000_000000'),
    ('/images/train/jena_000078_000019.png\t/segmentation/train/jena_000078_000019_gtFine.png',
     'jena/jena_000078_000019'),
    ('aachen/aachen_000000_000019', 'aachen/aachen_000000_000019'),
    ('train2017/000000283213.jpg masks/000000283213.png', '000000283213'),
    ('000000283213', '000000283213'),
    # names of one's own: a blank, a dot, folders that other data sets would drop
    ('street 1/img 2.JPG', 'street 1/img 2'),
    ('street 1/img 2.jpg masks 1/img 2.png', 'street 1/img 2'),
    ('a.b/c.d', 'a.b/c.d'),
    ('.\\train\\x.tif', 'train/x'),
    ('./train/x.tif', 'train/x'),
])
def test_every_style_gives_our_ids(entry, wanted):
    assert image_id(entry) == wanted
    assert image_id(image_id(entry)) == wanted  # ours are ours


def test_the_docstrings_examples_run():
    result = doctest.testmod(sys.modules[image_id.__module__])
    assert result.attempted == 2 and not result.failed


def test_suffixes_are_those_of_the_datasets():
    assert SUFFIXES == IMAGE_SUFFIXES


def test_reading(tmp_path):
    path = tmp_path / 'labeled.txt'
    path.write_bytes('\ufeff# mine\r\nb.jpg\r\n\r\na.jpg  x/a.png\r\né.jpg'.encode())
    assert read_ids(path) == ['b', 'a', 'é']  # order kept, no final line break needed
    path.write_bytes(b'\xff\xfe')
    with pytest.raises(ValueError, match=r'labeled\.txt.*UTF-8'):
        read_ids(path)
    path.write_text('# nothing\n')
    with pytest.raises(ValueError, match='names no image'):
        read_ids(path)
    with pytest.raises(FileNotFoundError, match='does not exist'):
        read_ids(tmp_path / 'no.txt')


def test_checksum_is_what_a_shell_gives():
    # printf 'a\nb' | sha256sum, over the sorted ids
    assert checksum(['b', 'a']) == hashlib.sha256(b'a\nb').hexdigest()
    assert checksum(['b', 'a']) == checksum(('a', 'b')) != checksum(['a'])


def test_pairs_of_every_layout(tmp_path):
    for name in ('1_8/labeled.txt', '1_8/unlabeled.txt', 'coco/labeled.txt', 'README.txt',
                 'val.txt', 'cps/train_aug_labeled_1-8.txt', 'cps/train_aug_unlabeled_1-8.txt',
                 'lone/unlabeled.txt'):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text('x\n')
    pairs, others = find_pairs(tmp_path)
    assert {(a.relative_to(tmp_path).as_posix(), b and b.name) for a, b in pairs} == {
        ('1_8/labeled.txt', 'unlabeled.txt'), ('coco/labeled.txt', None),
        ('cps/train_aug_labeled_1-8.txt', 'train_aug_unlabeled_1-8.txt')}
    assert [path.name for path in others] == ['unlabeled.txt', 'val.txt']
    with pytest.raises(FileNotFoundError, match='no list'):
        find_pairs(tmp_path / 'empty')


# --------------------------------------------------------------------------- the registry itself


def test_registry_holds_counts_of_the_papers():
    """Every count, from the sizes of the data sets: shares are rounded up."""
    total = {'voc': 10582, 'cityscapes': 2975, 'coco': 118287}
    classic = {'1-16': 92, '1-8': 183, '1-4': 366, '1-2': 732, 'full': 1464}
    with open(reg.FILE, newline='') as file:
        rows = list(csv.DictReader(file))
    pairs = {}
    for row in rows:
        if row['list']:
            pairs.setdefault((row['protocol'], row['partition']), {})[row['list']] = row
        assert len(row['sha256']) == 64 or (row['protocol'], row['list']) == ('coco-unimatch',
                                                                             'unlabeled')
    assert {key[0] for key in pairs} == set(reg.PROTOCOLS)
    for (protocol, partition), pair in pairs.items():
        counts = [int(pair[part]['count']) for part in ('labeled', 'unlabeled')]
        dataset = reg.PROTOCOLS[protocol].dataset
        assert sum(counts) == total[dataset]
        if 'classic' in protocol:
            assert counts[0] == classic[partition.split('-split')[0]]
        elif (protocol, partition.split('-split')[0]) == ('voc-blender-stpp', '1-4'):
            assert counts[0] == 2645  # these round down
        else:
            assert counts[0] == -(-total[dataset] // int(partition.split('-')[1]))
    # no two partitions share a labelled list, or the name would be a matter of order
    shas = [pair['labeled']['sha256'] for pair in pairs.values()]
    assert len(set(shas)) == len(shas)


def test_pseudo_labels_are_said_and_leave_the_protocol():
    for name in ('voc-classic/1-16', protocol_of(['a'], ['b'])):
        assert describe(f'{name}+pseudo') == (
            f'{describe(name)}, with pseudo labels of unlabelled images')
        assert check_same_protocol([name, f'{name}+pseudo']) == name.split('/')[0]


def test_own_lists_are_named_by_their_images():
    name = protocol_of(['b', 'a'], ['c'])
    everything, labelled = (hashlib.sha256(text).hexdigest()[:12] for text in (b'a\nb\nc', b'a\nb'))
    assert name == f'own-{everything}/{labelled}' == protocol_of(['a', 'b'], ['c'])
    other = protocol_of(['a'], ['b', 'c'])  # another partition of the same images
    assert check_same_protocol([name, other]) == f'own-{everything}'
    with pytest.raises(ValueError, match='own lists'):
        check_same_protocol([name, protocol_of(['a'], ['b'])])


def test_mixing_is_refused_by_both_names():
    assert check_same_protocol(['voc-classic/1-16', 'voc-classic/full']) == 'voc-classic'
    with pytest.raises(ValueError) as error:
        check_same_protocol(['voc-blender-u2pl/1-8', 'voc-blender-u2pl/1-4',
                             'voc-blender-unimatch/1-8'])
    assert "'voc-blender-u2pl/1-8' and 'voc-blender-unimatch/1-8'" in str(error.value)
    with pytest.raises(ValueError, match='protocol.json'):
        check_same_protocol([])


def test_problems_of_a_pair(tmp_path):
    labeled, unlabeled = tmp_path / 'labeled.txt', tmp_path / 'unlabeled.txt'
    labeled.write_text('a\nb\nb\n')
    unlabeled.write_text('c\nb\nc\nd\n')
    problems = verify_pair(labeled, unlabeled).problems
    assert [problem.split(':')[0] for problem in problems] == [
        'labeled.txt repeats 1 images', 'unlabeled.txt repeats 1 images',
        '1 images are labelled and unlabelled']
    unlabeled.write_text('c\n')
    labeled.write_text('a\n')
    assert verify_pair(labeled, unlabeled).problems == []
    labeled.write_text('')
    assert 'names no image' in verify_pair(labeled, unlabeled).problems[0]


# ----------------------------------------------------------------------------- published lists


@needed
def test_published_lists_are_named_by_their_folders():
    """The names follow from checksums; here they are compared with the publishers' folders."""
    classic = {'92': '1-16', '183': '1-8', '366': '1-4', '732': '1-2', '1464': 'full'}
    named = {report.path.relative_to(LISTS).as_posix(): report for report in verify_folder(LISTS)}
    assert not [report for report in named.values() if report.problems]
    for path, report in named.items():
        publisher, data, *rest = path.split('/')
        part = rest[0]
        if len(rest) == 1:
            assert report.name == {
                'pascal': 'voc', 'cityscapes': 'cityscapes', 'coco': 'coco'}[data] + (
                    ' trainaug' if part == 'train_aug.txt' else ' val')
        elif data == 'pascal' and part in classic:
            assert report.name == f'voc-classic/{classic[part]}'
        elif data == 'pascal':
            family = 'u2pl' if 'u2pl' in path else 'unimatch'
            sizes = {'662': '1-16', '1323': '1-8', '2646': '1-4', '5291': '1-2'}
            share = sizes.get(part) or part.replace('u2pl_', '').replace('_', '-')
            assert report.name == f'voc-blender-{family}/{share}'
        elif publisher == 'unimatch':
            assert report.name == f'{data}-unimatch/{part.replace("_", "-")}'
        else:
            share = {'186': '1-16', '372': '1-8', '744': '1-4', '1488': '1-2'}[part]
            assert report.name == f'cityscapes-u2pl/{share}'
    assert len(named) == 40


@needed
def test_registry_can_be_made_again():
    made = set(reg.make_rows(LISTS))
    # what the other publishers add is not in this folder
    elsewhere = {row for row in reg.rows() if 'stpp' in row.protocol
                 or row[:2] == ('voc-blender-unimatch', '1-2')}
    assert made == set(reg.rows()) - elsewhere and len(made) > 50


@needed
def test_recognition_needs_both_lists_whole():
    folder = Path(LISTS) / 'unimatch/pascal/92'
    labeled, unlabeled = (read_ids(folder / f'{which}labeled.txt') for which in ('', 'un'))
    random.Random(0).shuffle(unlabeled)
    assert protocol_of(labeled, unlabeled) == protocol_of(labeled) == 'voc-classic/1-16'
    assert protocol_of(labeled, unlabeled[1:]).startswith('own-')
    assert protocol_of(labeled[1:], unlabeled).startswith('own-')
    assert protocol_of(labeled, [*unlabeled, 'x']).startswith('own-')
    with pytest.raises(ValueError, match='own lists.*VOC classic|VOC classic.*own lists'):
        check_same_protocol([protocol_of(labeled, unlabeled), protocol_of(labeled, unlabeled[1:])])


@needed
def test_damaged_and_mixed_pairs_are_told_apart(tmp_path):
    folder = Path(LISTS) / 'unimatch/pascal'
    lines = (folder / '1_8/unlabeled.txt').read_text().splitlines()
    (tmp_path / 'unlabeled.txt').write_text('\n'.join(lines[:-1]))
    (tmp_path / 'labeled.txt').write_bytes((folder / '1_8/labeled.txt').read_bytes())
    problem, = verify_folder(tmp_path)[0].problems
    assert 'labeled list is that of voc-blender-unimatch/1-8' in problem
    assert 'has 9258 ids, published are 9259' in problem
    (tmp_path / 'unlabeled.txt').write_bytes((folder / 'u2pl_1_8/unlabeled.txt').read_bytes())
    text = '\n'.join(verify_folder(tmp_path)[0].problems)
    assert 'voc-blender-unimatch/1-8' in text and 'voc-blender-u2pl/1-8' in text


@needed
def test_coco_needs_the_rest_of_train2017():
    labeled = read_ids(Path(LISTS) / 'unimatch/coco/1_512/labeled.txt')
    rest = [f'{i:012d}' for i in range(10 ** 6, 10 ** 6 + 118287 - 232)]
    assert protocol_of(labeled, rest) == 'coco-unimatch/1-512'
    assert protocol_of(labeled, rest[1:]).startswith('own-')
    assert protocol_of(labeled, rest[1:] + labeled[:1]).startswith('own-')
