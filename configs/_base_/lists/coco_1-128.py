# COCO with 925 of 118287 images labelled.
num_labeled, num_unlabeled = 925, 117362
lists = dict(
    labeled=dict(ann_file='splits/1-128/labeled.txt'),
    unlabeled=dict(ann_file='splits/1-128/unlabeled.txt'))
