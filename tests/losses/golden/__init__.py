"""What our losses are to the published implementations: one row an implementation, by topic."""

from tests.losses.golden import attention, contrastive, features, logits, maps, own, relational, stages, topk, vectors

FILES = (logits, topk, features, maps, vectors, own, stages, attention, relational, contrastive)
ROWS = tuple(row for file in FILES for row in file.ROWS)
