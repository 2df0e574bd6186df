# VOC classic with 1464 of 10582 images labelled.
num_labeled, num_unlabeled = 1464, 9118
lists = dict(
    labeled=dict(ann_file='splits/voc-classic/full/labeled.txt'),
    unlabeled=dict(ann_file='splits/voc-classic/full/unlabeled.txt'))
