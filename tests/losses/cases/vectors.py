"""Rows of the losses of `losses/features/` that compare vectors or channels, whatever their place."""

from math import log

import numpy as np

from mmkd_jax import losses
from tests.losses.cases.case import Case, Sampler, both
from tests.losses.formulas import vectors as formulas

draw = Sampler(11)

CASES = {
    "normalized_l2": Case(
        losses.normalized_l2,
        formulas.normalized_l2,
        draw.pair(4, 2, 3),
        # (3, 4) / 5 and (4, 3) / 5
        (both([[3, 4]], [[4, 3]]), {}, [2 / 25]),
        still_at_zero=True,
    ),
    "pearson": Case(
        losses.pearson,
        formulas.pearson,
        draw.pair(4, 2, 3, 2),
        # standardized: (−1, 0, 1) and (−1, 1, 0)
        (both([[0], [1], [2]], [[0], [2], [1]]), {}, [0, 1 / 2, 1 / 2]),
    ),
    "pad_l2": Case(
        losses.pad_l2,
        formulas.pad_l2,
        draw.pair(4, 2, 3) | {"log_variance": draw(4, 2, 3)},
        # σ² + ε is 2 and 3
        (
            both([[1, 3]], [[0, 1]], log_variance=np.array([[0, log(2)]])),
            {"eps": 1.0},
            [(1 / 2 + 4 / 3 + log(2)) / 2],
        ),
        {"eps": 0.1},
        zero_if_same=False,  # what is left is the log of the variance
    ),
    "cka": Case(
        losses.cka,
        formulas.cka,
        draw.pair(5, 3, teacher=(5, 2, 2)),
        # centered: (−1, 0, 1) and (−1, 1, 0), whose Gram matrices have the norms 2 and 2 and the product 1
        (both([[0], [1], [2]], [[0], [2], [1]]), {}, 3 / 4),
    ),
}
