"""Alignment losses between modalities: distributions, subspaces and predictions."""
