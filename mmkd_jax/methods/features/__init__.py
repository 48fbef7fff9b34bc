"""Intermediate-feature methods."""
