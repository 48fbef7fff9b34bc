"""One row a loss, by topic; a new loss adds a row to its topic's `CASES` and its formula to `formulas/`."""

from tests.losses.cases import contrastive, features, logits, regression, relational, vectors

CASES = logits.CASES | features.CASES | relational.CASES | contrastive.CASES | vectors.CASES | regression.CASES
