"""Which images are found, and where their results go."""
import pytest
from mmengine.config import ConfigDict

from mmseg_esl.predict import list_items
from mmseg_esl.predict.masks import pipeline_of
from mmseg_esl.predict.model import names_and_colours


@pytest.fixture
def folder(tmp_path):
    for name in ('a.JPG', 'sub/b.png', 'sub/deep/c.tif', 'sub/notes.txt', '.hidden/d.png'):
        path = tmp_path / 'photos' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / 'photos'


def test_results_mirror_the_folder(folder, tmp_path):
    items = list_items([folder], tmp_path / 'out')
    assert [str(item.outputs['index'].relative_to(tmp_path / 'out')) for item in items] == [
        'a.png', 'sub/b.png', 'sub/deep/c.png']
    assert [item.path for item in items][0] == str(folder / 'a.JPG')


def test_several_kinds_have_folders(folder, tmp_path):
    items = list_items([folder / 'sub/b.png'], tmp_path / 'out', ('index', 'overlay'))
    assert items[0].outputs == {kind: tmp_path / 'out' / kind / 'b.png'
                                for kind in ('index', 'overlay')}


def test_two_images_with_one_result_are_refused(folder, tmp_path):
    (folder / 'a.png').touch()
    with pytest.raises(ValueError, match=r'a\.JPG.*a\.png.*both become.*Rename one'):
        list_items([folder], tmp_path / 'out')
    (tmp_path / 'b.jpeg').touch()
    with pytest.raises(ValueError, match='both become'):
        list_items([folder / 'sub', tmp_path / 'b.jpeg'], tmp_path / 'out')


@pytest.mark.parametrize('out', ['photos', 'photos/masks', 'photos/sub/../masks'])
def test_results_among_the_images_are_refused(folder, tmp_path, out):
    with pytest.raises(ValueError, match='folder outside'):
        list_items([folder], tmp_path / out)


def test_no_image_is_replaced(folder, tmp_path):
    with pytest.raises(ValueError, match='would replace an image'):
        list_items([folder / 'sub/b.png'], folder / 'sub')
    # a neighbour whose name merely begins alike is another folder
    assert list_items([folder], tmp_path / 'photos masks')


def test_nothing_to_predict(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match="'.*missing' is neither"):
        list_items([folder / 'missing'], tmp_path / 'out')
    (tmp_path / 'empty').mkdir()
    with pytest.raises(ValueError, match="no image below '.*empty'"):
        list_items([tmp_path / 'empty'], tmp_path / 'out')


def test_a_config_without_a_test_set():
    """The validation set stands in; names and colours are made up only where neither has any."""
    steps = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'),
             dict(type='PackSegInputs')]
    seen = dict(type='BaseSegDataset', pipeline=steps,
                metainfo=dict(classes=('a', 'b'), palette=[[1, 2, 3], [4, 5, 6]]))
    cfg = ConfigDict(test_dataloader=None, val_dataloader=dict(dataset=seen))
    assert [step['type'] for step in pipeline_of(cfg)] == ['LoadImageFromFile', 'PackSegInputs']
    assert names_and_colours({}, cfg, 2) == dict(classes=('a', 'b'),
                                                 palette=[[1, 2, 3], [4, 5, 6]])
    made_up = names_and_colours({}, ConfigDict(test_dataloader=None, val_dataloader=None), 150)
    assert made_up['classes'][149] == 'class 149'
    assert len({tuple(colour) for colour in made_up['palette']}) == 150
