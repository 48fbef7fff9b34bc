"""One row a loss, by topic; a new loss adds a row to its topic's `CASES` and its formula to `formulas/`."""

from tests.losses.cases import attention, contrastive, features, logits, maps, relational

CASES = logits.CASES | features.CASES | maps.CASES | attention.CASES | relational.CASES | contrastive.CASES
