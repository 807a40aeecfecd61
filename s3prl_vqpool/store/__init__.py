"""Features of a corpus, extracted once: codes, pooled vectors of every layer, and frames on request.

Examples:
    >>> store = Store.open("feats/")  # doctest: +SKIP
    >>> store.vectors("VQ-LP").shape, store.codes(0).shape  # doctest: +SKIP
    (torch.Size([67805, 13, 768]), torch.Size([49, 2]))
"""

from .reader import Store
from .rows import Row

__all__ = ["Row", "Store"]
