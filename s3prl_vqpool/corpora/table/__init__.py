"""A corpus of the user's own: a table, a Kaldi data directory, or a folder of folders (docs/guides/own-corpus.md).

`sources` reads it as rows of text, `records` makes utterances of rows, `division` says which split each one is in,
`corpus` is the loader, and `export` writes any corpus as a table.
"""
