# CamVid with 23 of 367 images labelled.
num_labeled, num_unlabeled = 23, 344
lists = dict(
    labeled=dict(ann_file='splits/seed0/1_16/labeled.txt'),
    unlabeled=dict(ann_file='splits/seed0/1_16/unlabeled.txt'))
