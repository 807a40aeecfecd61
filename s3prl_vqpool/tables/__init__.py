"""The tables of arXiv 2304.03940, from speech whose features are stored."""
