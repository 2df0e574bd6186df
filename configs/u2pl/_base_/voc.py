# U2PL's release on VOC: the network is its own, all else ours too.
_base_ = ['../../_base_/data/voc.py', './network.py']
model = _base_.network
