"""Rows of the losses of `losses/relational/`."""

from math import log, sqrt

import numpy as np

from mmkd_jax import losses
from tests.losses.cases.case import Case, both, sampler
from tests.losses.formulas import relational as formulas

draw = sampler(2)

CASES = {
    "rkd_distance": Case(
        losses.rkd_distance,
        formulas.rkd_distance,
        draw.pair(5, 3, teacher=(5, 4)),
        # distances 1, 3, 2 over their mean 2; 1, 2, 1 over 4/3: the differences are −1/4, 0, 1/4
        (both([[0], [1], [3]], [[0], [1], [2]]), {}, [1 / 96, 2 / 96, 1 / 96]),
    ),
    "rkd_angle": Case(
        losses.rkd_angle,
        formulas.rkd_angle,
        draw.pair(4, 3, teacher=(4, 5)),
        # a right isosceles triangle (cosines 0, 1/√2, 1/√2) and an equilateral one (1/2)
        (
            both([[0, 0], [1, 0], [0, 1]], [[0, 0], [1, 0], [0.5, sqrt(0.75)]]),
            {},
            [0.25 / 9] + 2 * [(sqrt(0.5) - 0.5) ** 2 / 9],
        ),
    ),
    "sp": Case(
        losses.sp,
        formulas.sp,
        draw.pair(5, 3, 2, teacher=(5, 4)),
        # rows of the Gram matrices: (1, 0) and (1, 1) / √2
        (both(np.eye(2), [[1, 0], [1, 0]]), {}, 2 * [((1 - sqrt(0.5)) ** 2 + 0.5) / 2]),
    ),
    "pkt": Case(
        losses.pkt,
        formulas.pkt,
        draw.pair(5, 3, teacher=(5, 4)),
        # q = (2/3, 1/3), p = (1, 0), up to the 1e-7 of the authors
        (both(np.eye(2), [[1, 0], [-1, 0]]), {}, 2 * [log(3 / 2) / 2]),
        still_at_zero=True,
    ),
}
