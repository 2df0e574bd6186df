"""Partitions of a data set into labelled and unlabelled images; neither torch nor mm* is needed."""

from .lists import checksum, find_pairs, image_id, read_ids, write_ids
from .protocol import check_same_protocol, describe, is_published, protocol_of

__all__ = [
    'check_same_protocol', 'checksum', 'describe', 'find_pairs', 'image_id', 'is_published',
    'protocol_of', 'read_ids', 'write_ids'
]
