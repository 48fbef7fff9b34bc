"""What our losses are to the published implementations: one row an implementation, by topic."""

from tests.losses.golden import attention, contrastive, features, logits, maps, relational

ROWS = (*logits.ROWS, *features.ROWS, *maps.ROWS, *attention.ROWS, *relational.ROWS, *contrastive.ROWS)
