"""A page that opens offline: tables, figures, and utterances to look at and to hear."""

from .document import require, write

__all__ = ["require", "write"]
