"""Losses on the scores of documents for queries, for retrieval and ranking."""
