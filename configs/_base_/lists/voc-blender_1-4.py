# VOC blender with 2646 of 10582 images labelled.
num_labeled, num_unlabeled = 2646, 7936
lists = dict(
    labeled=dict(ann_file='splits/voc-blender-u2pl/1-4/labeled.txt'),
    unlabeled=dict(ann_file='splits/voc-blender-u2pl/1-4/unlabeled.txt'))
