"""Regression losses; the first axis is the batch, and the last of two or more axes runs over targets."""
