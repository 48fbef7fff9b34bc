"""Losses between features; the first axis is the batch."""
