"""Checkpoints are data: reads tensors from a path or an address; nothing in a file is imported or called."""

from .download import fetch
from .experiment import SAFE_GLOBALS, load

__all__ = ["SAFE_GLOBALS", "fetch", "load"]
