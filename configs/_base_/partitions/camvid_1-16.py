# CamVid with 23 of 367 images labelled: a supervised config, for a method to wrap.
_base_ = ['../data/camvid.py', '../lists/camvid_1-16.py']
train_dataloader = dict(dataset=_base_.lists)
