# VOC classic with 183 of 10582 images labelled.
num_labeled, num_unlabeled = 183, 10399
lists = dict(
    labeled=dict(ann_file='splits/voc-classic/1-8/labeled.txt'),
    unlabeled=dict(ann_file='splits/voc-classic/1-8/unlabeled.txt'))
