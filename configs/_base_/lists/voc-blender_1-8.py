# VOC blender with 1323 of 10582 images labelled.
num_labeled, num_unlabeled = 1323, 9259
lists = dict(
    labeled=dict(ann_file='splits/voc-blender-u2pl/1-8/labeled.txt'),
    unlabeled=dict(ann_file='splits/voc-blender-u2pl/1-8/unlabeled.txt'))
