"""Contrastive and cross-modal methods."""
