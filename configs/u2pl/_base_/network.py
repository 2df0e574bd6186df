# U2PL's network, which GTA-Seg shares, where it differs from ours: model = _base_.network
network = dict(
    # grid (2, 2, 4) of the last stage, whose first block has the rate of the stage before
    backbone=dict(multi_grid=(4, 8, 16)),
    decode_head=dict(channels=256, c1_channels=256))  # 512 channels enter the classifier
