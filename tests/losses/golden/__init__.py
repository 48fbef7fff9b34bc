"""What our losses are to the published implementations: one row an implementation, by topic."""

from tests.losses.golden import contrastive, features, logits, own, relational

ROWS = (*logits.ROWS, *features.ROWS, *relational.ROWS, *contrastive.ROWS, *own.ROWS)
