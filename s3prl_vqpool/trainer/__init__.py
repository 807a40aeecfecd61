"""Heads on stored vectors: S3PRL's training, all learning rates and poolings at once."""

from .loop import train

__all__ = ["train"]
