"""Losses of regression; the first axis is the batch, and of two or more axes the last is the targets' own."""
