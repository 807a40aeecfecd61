"""The embedded corpora: speech synthesised with espeak-ng, in the layout of the four corpora of SUPERB."""

from .record import SIZES, TASKS, synthesise

__all__ = ["SIZES", "TASKS", "synthesise"]
