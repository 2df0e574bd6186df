# VOC blender with 662 of 10582 images labelled.
num_labeled, num_unlabeled = 662, 9920
lists = dict(
    labeled=dict(ann_file='splits/voc-blender-u2pl/1-16/labeled.txt'),
    unlabeled=dict(ann_file='splits/voc-blender-u2pl/1-16/unlabeled.txt'))
