"""What every upstream with codes shares; the hand-over of a batch's codes to its downstream stands here.

An upstream of your own needs `WithCodes` and `hub_entry` (docs/guides/add-an-upstream.md).
"""

from .entries import hub_entry
from .handover import Codes, mask_padding, publish, require, take
from .upstream import WithCodes, best_entries, hash_of

__all__ = [
    "Codes",
    "WithCodes",
    "best_entries",
    "hash_of",
    "hub_entry",
    "mask_padding",
    "publish",
    "require",
    "take",
]
