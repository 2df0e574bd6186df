# VOC classic with 732 of 10582 images labelled.
num_labeled, num_unlabeled = 732, 9850
lists = dict(
    labeled=dict(ann_file='splits/voc-classic/1-2/labeled.txt'),
    unlabeled=dict(ann_file='splits/voc-classic/1-2/unlabeled.txt'))
