"""Others' figures beside runs: the CSV, and which of its rows a run is given."""
import csv
import re
from pathlib import Path

import pytest
from mmseg.registry import MODELS
from test_summarize import FIGURES, config, of, parse_csv, parse_markdown, validation, write_start

from mmseg_esl.conversion.config import Method, methods
from mmseg_esl.results import (
    make_table,
    read_figures,
    read_published,
    read_run,
    to_csv,
    to_markdown,
)
from mmseg_esl.results.published import EVIDENCE, UNSTATED
from mmseg_esl.splits.published import PROTOCOLS, rows

ROOT = Path(__file__).parents[2]
FILE = ROOT / 'docs/results/published.csv'
ROWS = read_published(FILE)
COUNTS = {(row.protocol, row.partition): row.count for row in rows() if row.part == 'labeled'}


def some(**given):
    return [row for row in ROWS if all(getattr(row, key) == value for key, value in given.items())]


# ---------------------------------------------------------------------------------------- the CSV


def test_every_row_says_where_it_is_from():
    for row in ROWS:
        assert re.fullmatch(r'\d\d\.\d\d', row.miou) and row.evidence in EVIDENCE and row.source
        assert row.epoch in ('last', 'best', UNSTATED)
        assert row.evaluation in ('whole image', 'centre crop', 'sliding window', UNSTATED)
        assert row.network in ('student', 'teacher', 'better of both', UNSTATED)
        if row.lists in PROTOCOLS:  # a published list has as many images
            assert row.lists.startswith(row.dataset.split('_')[0])
            assert row.labelled == 'all' or int(row.labelled) in {
                count for (name, _), count in COUNTS.items() if name == row.lists}, row
    assert len(set(ROWS)) == len(ROWS)


def test_every_method_that_has_published_figures_is_known():
    """By the very name that its runs record."""
    known = {row.method for row in ROWS}
    with open(FIGURES, newline='') as file:
        known |= {row['method'] for row in csv.DictReader(file)}
    classes = {folder: Method(folder).model for folder in methods()}
    names = {folder: cls.published_as(cls.parse_cfg({})) for folder, cls in classes.items()}
    # one is our own, one a reconstruction
    assert {folder for folder, name in names.items() if name not in known} == {
        'esl_plus', 'pc2seg'}
    assert names['esl_plus'] is names['pc2seg'] is None


@pytest.mark.parametrize('method, changed', [
    ('FixMatch', dict(threshold=0.5)), ('UniMatch', dict(feature_drop=0.1)),
    ('UniMatch', dict(threshold=0.5)), ('UniMatchV2', dict(clean_share=1.0)),
    ('AugSeg', dict(extra_weak=True)), ('CorrMatch', dict(kl_weight=0.0)),
    ('CCT', dict(consistency_weight=1.0)), ('CutMixSeg', dict(consistency_weight=9.0)),
    ('PSMT', dict(threshold=0.1))])
def test_other_constants_have_no_figure(method, changed):
    cls = MODELS.get(method)
    assert cls.published_as(cls.parse_cfg(changed)) is None


def test_figures_of_unimatch_v2_are_those_of_its_page():
    """Which was written apart; best epoch, last one in brackets."""
    page = (ROOT / 'configs/unimatch_v2/README.md').read_text()
    counts = dict(VOC=(92, 183, 366, 732, 1464), Cityscapes=(186, 372, 744, 1488))
    lines = re.findall(r'^\| (VOC|Cityscapes)[^|]*ViT-([SB]) \|(.*)\|$', page, re.M)
    assert len(lines) == 4
    for data, size, cells in lines:
        for count, cell in zip(counts[data], cells.split('|')):
            best, last = re.fullmatch(r' ([\d.]+)(?: \(([\d.]+)\))? ', cell).groups()
            found = {row.epoch: row.miou for row in some(
                method='UniMatch V2', backbone=f'DINOv2-{size}', labelled=str(count),
                evidence='log') if row.dataset.startswith(data.lower())}
            assert found['best'] == best and last in (None, found['last'])


def test_where_the_papers_baselines_come_from():
    """Of ResNet-50 AugSeg's logs, of ResNet-101 U2PL's README: two codes, two families of lists."""
    with open(FIGURES, newline='') as file:
        supervised = [row for row in csv.DictReader(file) if row['method'] == 'Sup baseline']
    origin = dict(R50=('ZhenZHAO/AugSeg', 'whole image'), R101=('Haochen-Wang409/U2PL', 'centre'))
    apart = []
    for row in supervised:
        found = some(method='Sup baseline', **{key: row[key] for key in (
            'dataset', 'backbone', 'labelled', 'miou')})
        source, seen = origin.get(row['backbone'], ('', ''))
        if not any(each.source.startswith(source) and (
                each.evaluation.startswith(seen) or row['dataset'] == 'cityscapes')
                for each in found):
            apart.append((row['backbone'], row['dataset'], row['labelled']))
    assert [cell for cell in apart if cell[0] != 'Xception-65'] == [
        ('R50', 'voc_classic', '1464'), ('R50', 'voc_blender', '5291')]


# ------------------------------------------------------------------------------------ beside runs


def unimatch(crop=321, depth=50, **semi):
    cfg = config(depth=depth, center=None)
    cfg['model'].pop('part_memory')
    cfg['model'].update(type='UniMatch', semi_train_cfg=semi)
    cfg['train_dataloader']['dataset']['labeled']['pipeline'] = [
        dict(type='RandomCrop', crop_size=(crop, crop))]
    return cfg


def table_of(tmp_path, cfg, protocol='voc-classic/1-16', figures=None):
    folder = write_start(tmp_path / str(len(list(tmp_path.iterdir()))), [validation(100, 50.0)],
                         cfg, protocol=protocol)
    return make_table([read_run(folder)], figures=figures, others=ROWS)


def test_cell_and_footnote(tmp_path):
    table = table_of(tmp_path, unimatch())
    text = to_markdown(table)
    row, = parse_markdown(text, 'training')
    assert row['published'] == '70.57 (last)' and row['training'] == 'UniMatch [1]'
    note, = [line for line in text.splitlines() if line.startswith('[1] ')]
    for said in ('70.57 (crop 321, whole image, last epoch, student, lists voc-classic; '
                 'LiheYoung/UniMatch, training logs) [log]', '71.90 (crop 321, whole image, best',
                 '67.40 (crop 513, evaluation unstated, epoch unstated', 'RankMatch paper) [pap'):
        assert said in note
    cell, = parse_csv(to_csv(table))
    assert cell['published'] == '70.57' and '71.90' in cell['published_source']


def beside(tmp_path, cfg, protocol='voc-classic/1-16'):
    row, = table_of(tmp_path, cfg, protocol).rows
    return row.beside and row.beside.miou, {each.miou for each in row.published}


def test_what_must_agree(tmp_path):
    assert beside(tmp_path, unimatch(crop=513))[0] == '67.40'
    assert beside(tmp_path, unimatch(crop=801)) == (None, {'70.57', '71.90', '67.40'})
    assert 'None is by crop and evaluation' in to_markdown(table_of(tmp_path, unimatch(crop=801)))
    assert beside(tmp_path, unimatch(depth=101))[0] == '74.48'
    assert beside(tmp_path, unimatch(depth=18)) == (None, set())
    assert beside(tmp_path, unimatch(feature_weight=0.1)) == (None, set())
    assert beside(tmp_path, unimatch(labels_by='teacher'))[1] == set()  # known with DINOv2 alone
    assert beside(tmp_path, unimatch(), 'voc-classic-stpp/1-16-split1') == (None, set())
    # other lists of the same count are another cell
    ours, theirs = (beside(tmp_path, unimatch(crop=513), f'voc-blender-{lists}/1-16')
                    for lists in ('u2pl', 'unimatch'))
    assert ours[0] == '77.36' and theirs[0] == '75.80' and not ours[1] & theirs[1]
    cfg = unimatch()
    cfg['model']['segmentor']['decode_head']['type'] = 'FCNHead'
    assert beside(tmp_path, cfg) == (None, set())
    cfg = unimatch(crop=518)
    cfg['model'].update(type='UniMatchV2', segmentor=dict(
        cfg['model']['segmentor'], decode_head=dict(type='MapDPTHead'),
        backbone=dict(type='TIMMPlainViT', model_name='vit_small_patch14_dinov2')))
    assert beside(tmp_path, cfg)[0] == '79.03'


def test_a_quoted_baseline_says_whose_it_is(tmp_path):
    figures = read_figures(FIGURES)

    def remark(method, depth, protocol='voc-classic/1-16', **semi):
        cfg = config(depth=depth)
        cfg['model'].pop('part_memory')
        cfg['model'].update(type=method, semi_train_cfg=semi)
        row, = table_of(tmp_path, cfg, protocol, figures).rows
        return row.paper.remark

    said = remark('Supervised', 50)
    assert 'several codes and families of lists' in said
    assert '44.03 (crop 513, stride 16, whole image, best epoch' in said and 'AugSeg' in said
    said = remark('Supervised', 101, 'voc-blender-u2pl/1-16')
    assert '67.87 (crop 513, stride 8, centre crop' in said and 'lists voc-blender-u2pl' in said
    assert 'where this figure comes from is not recorded' in remark('MeanTeacher', 101)
    row, = table_of(tmp_path, config(), 'voc-classic/full', figures).rows
    assert row.paper.miou == '77.11' and row.paper.remark == ''  # its own


def test_nothing_beside_another_metric_or_own_lists(tmp_path):
    folder = write_start(tmp_path / 'own', [validation(100, 50.0, **{'teacher/aAcc': 9.0})],
                         unimatch(), protocol='own-aaa/1', count=92)
    for metric in ('mIoU', 'aAcc'):
        row, = make_table([read_run(folder)], metric, others=ROWS).rows
        assert (row.published, row.beside) == ([], None)
    assert of([folder]).rows[0].published == []


def test_other_files_are_refused(tmp_path):
    with pytest.raises(ValueError, match='no such file.*--published'):
        read_published(tmp_path / 'none.csv')
    with pytest.raises(ValueError, match='columns must be method,backbone'):
        read_published(FIGURES)
