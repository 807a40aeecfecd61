"""What every upstream with codes shares; the hand-over of a batch's codes to its downstream stands here."""

from .handover import Codes, mask_padding, publish, require, take

__all__ = ["Codes", "mask_padding", "publish", "require", "take"]
