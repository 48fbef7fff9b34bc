"""Losses between transformer layers: attention maps and hidden states."""
