"""What all upstreams with codes share. The names here hand over the codes of a batch to its downstream.

An upstream of your own needs `WithCodes` and `hub_entry` (docs/guides/add-an-upstream.md).
"""

from .entries import hub_entry
from .handover import Codes, mask_padding, publish, recount, require, take
from .upstream import WithCodes, best_entries, hash_of

__all__ = [
    "Codes",
    "WithCodes",
    "best_entries",
    "hash_of",
    "hub_entry",
    "mask_padding",
    "publish",
    "recount",
    "require",
    "take",
]
