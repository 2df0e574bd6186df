"""tools/export_onnx.py on a trained project."""
import numpy as np
import pytest
import torch
from commands import tool
from PIL import Image

from mmseg_esl.predict import Masker, graph, load_segmentor

onnxruntime = pytest.importorskip('onnxruntime')
pytest.importorskip('onnx')


@pytest.fixture(autouse=True)
def older_exporter(monkeypatch):
    """It takes a tenth of the newer one's time; tests/predict/test_graph.py has both."""
    monkeypatch.setattr(graph, '_newer', lambda: False)
    real = torch.onnx.export
    if 'dynamo' in torch.onnx.export.__code__.co_varnames:
        monkeypatch.setattr(torch.onnx, 'export', lambda *a, **k: real(*a, **k, dynamo=False))


def test_the_graph_predicts_as_predict_py(trained, monkeypatch, tmp_path, capsys):
    config, work, _ = trained
    tool(monkeypatch, 'export_onnx.py', config, work / 'iter_6.pth', tmp_path / 'm.onnx',
         '--dynamic', '--network', 'student')
    assert 'classes agree on' in capsys.readouterr().out
    path = config.parent / 'data/images/val/val0.png'
    session = onnxruntime.InferenceSession(str(tmp_path / 'm.onnx'))
    image = np.asarray(Image.open(path).convert('RGB')).transpose(2, 0, 1)[None]
    found = session.run(None, {'image': image})[0].argmax(axis=1)[0]
    segmentor = load_segmentor(str(config), work / 'iter_6.pth', network='student')
    masker = Masker(segmentor)
    assert (found == masker([masker.prepare(str(path))])[0]).mean() > 0.999


def test_a_graph_that_differs_is_not_written(trained, monkeypatch, tmp_path):
    config, work, _ = trained
    (tmp_path / 'm.onnx').write_text('an older one')
    real = graph.export

    def export(deployed, *args):
        """As an exporter with a fault would: the graph is of other weights."""
        real(deployed, *args)
        with torch.no_grad():
            deployed.segmentor.decode_head.conv_seg.weight.mul_(-3)

    monkeypatch.setattr(graph, 'export', export)
    with pytest.raises(SystemExit, match='is not the network and was not written: logits differ'):
        tool(monkeypatch, 'export_onnx.py', config, work / 'iter_6.pth', tmp_path / 'm.onnx',
             '--size', 48, 64)
    assert [p.read_text() for p in tmp_path.iterdir()] == ['an older one']


def test_a_size_is_asked_for(trained, monkeypatch, tmp_path, capsys):
    with pytest.raises(SystemExit):
        tool(monkeypatch, 'export_onnx.py', trained[0], trained[1] / 'iter_6.pth', tmp_path / 'm')
    assert '--size --dynamic is required' in capsys.readouterr().err
