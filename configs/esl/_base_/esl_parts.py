# What ESL adds to a model, under names that no other config has. configs/esl/_base_/esl.py is this
# with its hooks and imports put in place; inherit this one where your config has custom_hooks or
# custom_imports of its own, and join the lists in the leaf:
#   custom_imports = dict(imports=[*_base_.custom_imports.imports, 'mmseg_esl.register'])
#   custom_hooks = [*_base_.custom_hooks, *_base_.esl_hooks]
# Keys and what is the paper's: see ESLTrainCfg in mmseg_esl/models/esl.py.
esl = dict(
    type='ESL',
    embedding='decode_head.conv_seg',  # the projector reads what the classifier reads
    projector=dict(type='ESLProjector', channels=512, num_convs=3),
    part_memory=dict(type='PartMemory', num_parts=5, queue_length=256, momentum=0.99),
    semi_train_cfg=dict(
        variant='dsl+ctr',  # or: sup, hard, hard+ctr, topk, topk+ctr, dsl
        mass=0.95,
        sce_weight=0.2,
        ctr_weight=0.1,
        confidence=0.95,
        anchor_fraction=0.1,
        num_negatives=255,
        temperature=0.5,
        cutmix_prob=0.5),
    semi_test_cfg=dict(predict_on='teacher'))

esl_hooks = [
    dict(type='TeacherEMAHook', momentum=0.99),
    dict(type='PartInitHook'),
    dict(type='DiagnosticsHook'),
    dict(type='RunStateHook'),
    dict(type='FiniteGuardHook'),
]
