"""The whole paper from corpora that are named: stores, tables, figures, the page; each a step that a verb does."""
