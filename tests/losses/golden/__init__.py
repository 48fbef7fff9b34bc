"""What our losses are to the published implementations: one row an implementation, by topic."""

from tests.losses.golden import attention, contrastive, features, logits, maps, own, relational, topk

FILES = (logits, features, maps, own, attention, relational, contrastive, topk)
ROWS = tuple(row for file in FILES for row in file.ROWS)
