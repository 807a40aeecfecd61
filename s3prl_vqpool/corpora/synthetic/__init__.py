"""The embedded corpora: speech synthesised with espeak-ng, laid out as the four that SUPERB uses."""

from .record import SIZES, TASKS, synthesise

__all__ = ["SIZES", "TASKS", "synthesise"]
