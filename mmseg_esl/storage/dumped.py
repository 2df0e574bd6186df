"""Configs as a run leaves them (``Config.dump``, ``pretty_text``): literals, never executed."""
from __future__ import annotations

import ast
from pathlib import Path

SCOPES = ('mmengine', 'mmcv', 'mmseg', 'mmseg_esl', 'mmpretrain', 'mmdet')
_NUMBERS = {'inf': float('inf'), 'nan': float('nan')}  # as repr writes them
_REMEDY = ('A run dumps its config as plain values; one that is code is read only where it is '
           'named on the command line. Config.fromfile(A).dump(B) writes such a file')


def parse_config(text: str, source) -> dict:
    """Read a dumped config: assignments of literals and of ``dict(key=literal)``, ``dict({...})``.

    Args:
        text: what ``Config.dump`` wrote.
        source: how to call it in an error.

    Returns:
        ``{name: value}`` of plain dicts, lists, tuples, text and numbers.

    Raises:
        ValueError: anything else stands in it; source, line and remedy are named.
    """
    out = {}
    try:
        for node in ast.parse(text).body:
            if not (isinstance(node, ast.Assign) and len(node.targets) == 1
                    and isinstance(node.targets[0], ast.Name)):
                raise _NotPlain(node)
            name = node.targets[0].id
            if name == '_base_':  # it would lead to other files
                raise _NotPlain(node)
            out[name] = _value(node.value)
    except _NotPlain as error:
        raise ValueError(f'{source}, line {error.line}: no plain value. {_REMEDY}') from error
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError) as error:
        said = getattr(error, 'msg', None) or str(error) or 'too deep'
        raise ValueError(f'{source}: not a config ({type(error).__name__}: {said}). {_REMEDY}'
                         ) from error
    return out


def read_config(path) -> dict:
    """:func:`parse_config` of a file.

    Raises:
        ValueError: it is no text, or not literals only. OSError: it cannot be read.
    """
    if not Path(path).is_file():
        raise ValueError(f'{path}: no regular file')
    try:
        return parse_config(Path(path).read_text(encoding='utf-8'), path)
    except UnicodeDecodeError as error:
        raise ValueError(f'{path}: not a config (no UTF-8 text). {_REMEDY}') from error


class _NotPlain(Exception):
    """Code where a literal should be."""

    def __init__(self, node):
        super().__init__()
        self.line = getattr(node, 'lineno', '?')


def _value(node):
    if isinstance(node, ast.Call):
        plain = isinstance(node.func, ast.Name) and node.func.id == 'dict' \
            and all(each.arg for each in node.keywords) \
            and all(isinstance(each, ast.Dict) for each in node.args) and len(node.args) < 2
        if not plain:
            raise _NotPlain(node)
        given = _value(node.args[0]) if node.args else {}
        return dict(given, **{each.arg: _value(each.value) for each in node.keywords})
    if isinstance(node, ast.Dict):
        if not all(node.keys):  # {**other}
            raise _NotPlain(node)
        return {_value(key): _value(value) for key, value in zip(node.keys, node.values)}
    if isinstance(node, (ast.List, ast.Tuple, ast.Set)):
        kind = {ast.List: list, ast.Tuple: tuple, ast.Set: set}[type(node)]
        return kind(_value(each) for each in node.elts)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        value = _value(node.operand)
        if type(value) not in (int, float):
            raise _NotPlain(node)
        return -value
    if isinstance(node, ast.Name) and node.id in _NUMBERS:
        return _NUMBERS[node.id]
    if not isinstance(node, ast.Constant):
        raise _NotPlain(node)
    return node.value


def read_buildable(path, warn) -> dict:
    """:func:`read_config` of a file that is to be built from, with names of registries only.

    Args:
        path: of the file.
        warn: called with a text if it asks for imports (``custom_imports``), which are left out.

    Raises:
        ValueError: it is not literals only, or a ``type`` is a path to code.
    """
    cfg = read_config(path)
    refuse_paths_to_code(cfg, path)
    wanted = cfg.pop('custom_imports', None)
    names = (wanted or {}).get('imports', ()) if isinstance(wanted, dict) else ()
    own = [names] if isinstance(names, str) else [str(name) for name in names or ()]
    own = [name for name in own if name.split('.')[0] not in SCOPES]
    if own:
        warn(f'{path}: {", ".join(own)} not imported, since a config that is found in a folder is '
             'data. If the network needs it, name the config on the command line')
    return cfg


def refuse_paths_to_code(value, source, where: str = '') -> None:
    """Refuse types that are no names of a registry: mmengine imports what they name, and calls it.

    Args:
        value: a parsed config that something is to be built from.
        source: how to call it in an error.

    Raises:
        ValueError: a ``type`` such as 'subprocess.Popen'; its place is named.
    """
    if isinstance(value, (list, tuple)):
        value = dict(enumerate(value))
    if not isinstance(value, dict):
        return
    for key, inner in value.items():
        place = f'{where}.{key}' if where else str(key)
        if key == 'type' and isinstance(inner, str) and _leads_to_code(inner):
            raise ValueError(
                f'{source}: {place}={inner!r} is no name of a registry but a path to code, which '
                'is not taken from data. If you trust it, name the config on the command line')
        refuse_paths_to_code(inner, source, place)


def _leads_to_code(name: str) -> bool:
    """Whether mmengine would find something under a type's name outside of its registries."""
    if '.' not in name:
        return False
    scope, _, rest = name.partition('.')
    if scope not in SCOPES or '.' in rest:
        return True
    from mmengine.utils import get_object_from_string  # what its registries fall back to
    return get_object_from_string(name) is not None
