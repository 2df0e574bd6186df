# Cityscapes with 1488 of 2975 images labelled.
num_labeled, num_unlabeled = 1488, 1487
lists = dict(
    labeled=dict(ann_file='splits/1-2/labeled.txt'),
    unlabeled=dict(ann_file='splits/1-2/unlabeled.txt'))
