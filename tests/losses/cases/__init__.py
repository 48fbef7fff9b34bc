"""One row a loss, by topic; a new loss adds a row to its topic's `CASES` and its formula to `formulas/`."""

from tests.losses.cases import (
    alignment,
    attention,
    clip,
    contrastive,
    cross,
    features,
    logits,
    maps,
    own,
    ranking,
    regression,
    relational,
    stages,
    structure,
    topk,
    vectors,
)

FILES = (logits, topk, features, maps, vectors, own, stages, attention, relational, regression)
FILES += (contrastive, clip, ranking, cross, alignment, structure)
CASES = {name: case for file in FILES for name, case in file.CASES.items()}
