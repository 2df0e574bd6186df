# COCO with 1849 of 118287 images labelled.
num_labeled, num_unlabeled = 1849, 116438
lists = dict(
    labeled=dict(ann_file='splits/1-64/labeled.txt'),
    unlabeled=dict(ann_file='splits/1-64/unlabeled.txt'))
