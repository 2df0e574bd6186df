# VOC classic with 92 of 10582 images labelled.
num_labeled, num_unlabeled = 92, 10490
lists = dict(
    labeled=dict(ann_file='splits/voc-classic/1-16/labeled.txt'),
    unlabeled=dict(ann_file='splits/voc-classic/1-16/unlabeled.txt'))
