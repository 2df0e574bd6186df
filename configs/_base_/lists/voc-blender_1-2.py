# VOC blender with 5291 of 10582 images labelled.
num_labeled, num_unlabeled = 5291, 5291
lists = dict(
    labeled=dict(ann_file='splits/voc-blender-u2pl/1-2/labeled.txt'),
    unlabeled=dict(ann_file='splits/voc-blender-u2pl/1-2/unlabeled.txt'))
