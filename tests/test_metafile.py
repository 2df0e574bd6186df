"""The model index names what there is, and every config that is to be trained."""
from pathlib import Path

import yaml
from config_files import CONFIGS

ROOT = Path(__file__).parents[1]


def test_index_and_metafiles():
    index = yaml.safe_load((ROOT / 'model-index.yml').read_text())['Import']
    assert set(index) == {path.relative_to(ROOT).as_posix()
                          for path in (ROOT / 'configs').rglob('metafile.yaml')}
    listed = set()
    for path in index:
        content = yaml.safe_load((ROOT / path).read_text())
        collections = {each['Name'] for each in content['Collections']}
        assert all((ROOT / each['README']).is_file() for each in content['Collections'])
        for model in content['Models']:
            assert Path(model['Config']).stem == model['Name'] and 'Weights' not in model
            assert model['In Collection'] in collections
            listed.add(model['Config'])
    assert listed == {path.relative_to(ROOT).as_posix() for path in CONFIGS
                      if 'demo' not in path.parts}
