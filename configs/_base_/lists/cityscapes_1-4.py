# Cityscapes with 744 of 2975 images labelled.
num_labeled, num_unlabeled = 744, 2231
lists = dict(
    labeled=dict(ann_file='splits/1-4/labeled.txt'),
    unlabeled=dict(ann_file='splits/1-4/unlabeled.txt'))
