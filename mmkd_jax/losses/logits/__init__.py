"""Losses between logits: the last axis is the class axis, and all leading axes are kept."""
