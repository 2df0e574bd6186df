"""The tool that puts faults into the code: which ones, and that it goes on where it was cut."""
import json

import mutants


def test_every_kind_of_fault_in_a_small_file(tmp_path, monkeypatch):
    monkeypatch.setattr(mutants, 'ROOT', tmp_path)
    (tmp_path / 'a.py').write_text("""def f(x: int = 3) -> 'a text':
    if not x:
        raise ValueError(f'{x + 1}')
    return max(x * 2, key=abs) if x < 1 else -x
""")
    found = list(mutants.faults(tmp_path / 'a.py'))
    assert sorted((fault['line'], fault['was'], fault['now']) for fault in found) == [
        (1, '3', '(4)'), (2, 'not x', '(x)'), (4, '-x', '(x)'), (4, '1', '(2)'), (4, '2', '(3)'),
        (4, 'max(x * 2, key=abs)', '(max(x * 2))'),
        (4, 'max(x * 2, key=abs) if x < 1 else -x', '(-x if x < 1 else max(x * 2, key=abs))'),
        (4, 'x * 2', '(x / 2)'), (4, 'x < 1', '(x <= 1)')]
    source = (tmp_path / 'a.py').read_bytes()
    assert all(source[fault['start']:fault['end']].decode() == fault['was'] for fault in found)
    assert len({fault['key'] for fault in found}) == len(found)


def test_lines_that_were_cut_count_as_not_tried(tmp_path):
    out = tmp_path / 'mutants.jsonl'
    assert mutants.rows(out) == {}
    row = dict(key='a', noticed=True)
    out.write_text(f'{json.dumps(row)}\n\n[1]\n{{"key": "b", "not')
    assert mutants.rows(out) == {'a': row}
