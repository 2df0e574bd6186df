"""The scope ``mmseg_esl``: what a config that is inherited as ``mmseg_esl::...`` is built in.

Components are registered in mmseg's scope, where a config beside mmseg's own finds them without a
prefix. mmengine gives what comes from ``mmseg_esl::...`` this package's scope instead, and looks
for it here: empty registries, which hand every name up to mmseg's.
"""
from mmengine.registry import Registry
from mmseg import registry as mmseg_registry

for _name, _parent in vars(mmseg_registry).copy().items():
    if isinstance(_parent, Registry) and _parent.scope == 'mmseg':
        globals()[_name] = Registry(_parent.name, parent=_parent, scope='mmseg_esl')
