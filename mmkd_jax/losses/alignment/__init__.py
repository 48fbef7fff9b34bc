"""Losses that align modalities: their distributions, their subspaces, their predictions."""
