# VOC classic with 366 of 10582 images labelled.
num_labeled, num_unlabeled = 366, 10216
lists = dict(
    labeled=dict(ann_file='splits/voc-classic/1-4/labeled.txt'),
    unlabeled=dict(ann_file='splits/voc-classic/1-4/unlabeled.txt'))
