"""Sequences: chains of labels, and texts in unlike vocabularies."""
