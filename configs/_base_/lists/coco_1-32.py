# COCO with 3697 of 118287 images labelled.
num_labeled, num_unlabeled = 3697, 114590
lists = dict(
    labeled=dict(ann_file='splits/1-32/labeled.txt'),
    unlabeled=dict(ann_file='splits/1-32/unlabeled.txt'))
