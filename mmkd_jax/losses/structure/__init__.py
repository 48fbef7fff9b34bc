"""Sequence losses: linear-chain CRFs, and language models with different vocabularies."""
