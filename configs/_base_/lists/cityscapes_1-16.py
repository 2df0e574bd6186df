# Cityscapes with 186 of 2975 images labelled.
num_labeled, num_unlabeled = 186, 2789
lists = dict(
    labeled=dict(ann_file='splits/1-16/labeled.txt'),
    unlabeled=dict(ann_file='splits/1-16/unlabeled.txt'))
