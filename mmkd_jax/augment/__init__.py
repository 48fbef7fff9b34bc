"""Augmentations on the device: pure functions of a batch, keyed by example."""
