"""What our losses are to the published implementations: one row an implementation, by topic."""

from tests.losses.golden import contrastive, features, logits, relational, vectors

ROWS = (*logits.ROWS, *features.ROWS, *relational.ROWS, *contrastive.ROWS, *vectors.ROWS)
