"""What our losses are to the published implementations: one row an implementation, by topic."""

from tests.losses.golden import attention, contrastive, features, logits, own, relational

ROWS = tuple(row for file in (logits, features, own, attention, relational, contrastive) for row in file.ROWS)
