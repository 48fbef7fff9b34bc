"""Losses between logits: classes are the last axis, every leading axis is kept."""
