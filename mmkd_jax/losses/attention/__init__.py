"""Losses between the layers of transformers."""
