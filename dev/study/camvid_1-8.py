# The study's CamVid with 46 of 367 images labelled.
_base_ = './camvid_1-16.py'
num_labeled, num_unlabeled = 46, 321
train_dataloader = dict(dataset=dict(
    labeled=dict(ann_file='splits/seed0/1_8/labeled.txt'),
    unlabeled=dict(ann_file='splits/seed0/1_8/unlabeled.txt')))
