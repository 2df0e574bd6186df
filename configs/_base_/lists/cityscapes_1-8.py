# Cityscapes with 372 of 2975 images labelled.
num_labeled, num_unlabeled = 372, 2603
lists = dict(
    labeled=dict(ann_file='splits/1-8/labeled.txt'),
    unlabeled=dict(ann_file='splits/1-8/unlabeled.txt'))
