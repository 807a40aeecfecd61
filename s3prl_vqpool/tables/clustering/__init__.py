"""Clusters of utterance vectors, and how well they fit a reference."""
