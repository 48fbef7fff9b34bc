"""One row a loss, by topic; a new loss adds a row to its topic's `CASES` and its formula to `formulas/`."""

from tests.losses.cases import attention, contrastive, features, logits, maps, own, relational, stages

FILES = (logits, features, maps, own, stages, attention, relational, contrastive)
CASES = {name: case for file in FILES for name, case in file.CASES.items()}
