"""Rows of the losses of `losses/relational/`."""

from math import exp, log, sqrt

import numpy as np

from mmkd_jax import losses
from tests.losses.cases.case import Case, Sampler, both
from tests.losses.formulas import relational as formulas

draw = Sampler(2)

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
    "rkd_distance of normalized rows": Case(
        losses.rkd_distance,
        formulas.rkd_distance,
        draw.pair(5, 3, teacher=(5, 4)),
        # on the circle: distances √2, 2, √2 and √2, √2, 2, of one mean
        (
            both([[3, 0], [0, 2], [-5, 0]], [[1, 0], [0, 4], [0, -7]]),
            {"normalize": True},
            [x * (3 * (2 - sqrt(2)) / (2 * sqrt(2) + 2)) ** 2 / 6 for x in (1, 1, 2)],
        ),
        {"normalize": True},
        still_at_zero=True,
    ),
    "rkd_angle of normalized rows": Case(
        losses.rkd_angle,
        formulas.rkd_angle,
        draw.pair(4, 3, teacher=(4, 5)),
        # on the circle: a right isosceles triangle and an equilateral one
        (
            both([[2, 0], [0, 3], [-1, 0]], [[1, 0], [-1, sqrt(3)], [-1, -sqrt(3)]]),
            {"normalize": True},
            [(sqrt(0.5) - 0.5) ** 2 / 9, 0.25 / 9, (sqrt(0.5) - 0.5) ** 2 / 9],
        ),
        {"normalize": True},
        still_at_zero=True,
    ),
    "sp with rows divided by their L1 norm": Case(
        losses.sp,
        formulas.sp,
        draw.pair(5, 3, 2, teacher=(5, 4)),
        # (1, 0) and (1/2, 1/2)
        (both(np.eye(2), [[1, 0], [1, 0]]), {"norm": "l1"}, [0.25, 0.25]),
        {"norm": "l1"},
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
    "load_balancing": Case(
        losses.load_balancing,
        formulas.load_balancing,
        {"router": draw(5, 4)},
        # of three, rows 0 and 1 pick the first, row 2 the second
        (
            {"router": np.array([[0.75, 0.25, 0], [0.5, 0.25, 0.25], [0, 1, 0]])},
            {"top_k": 1},
            [3 * (0.75 * 2 + 0.25) / 3, 3 * (0.5 * 2 + 0.25) / 3, 1],
        ),
        {"top_k": 2},
        zero_if_same=False,
        places=True,
    ),
    "cc": Case(
        losses.cc,
        formulas.cc,
        draw.pair(5, 3, teacher=(5, 4)),
        # products: 1 and 0 in the student, all 1 in the teacher; k = (1 + product) / e
        (both(np.eye(2), [[2], [3]]), {"gamma": 0.5, "order": 1}, 2 * [exp(-2) / 2]),
        {"gamma": 0.6, "order": 3},
        still_at_zero=True,
    ),
    "cc_bilinear": Case(
        losses.cc_bilinear,
        formulas.cc_bilinear,
        draw.pair(5, 3, teacher=(5, 4)),
        # products: (1, 0), (0, 1) and (1, 2), (2, 4)
        (both(np.eye(2), [[1], [2]]), {}, [4 / 2, (4 + 9) / 2]),
    ),
    "dark_rank": Case(
        losses.dark_rank,
        formulas.dark_rank,
        draw.pair(5, 3, teacher=(5, 4)),
        # the teacher's orders are (1, 2), (2, 0), (1, 0), where the student's scores are (−1, −3), (−2, −1), (−2, −3)
        (
            both([[0], [1], [3]], [[0], [2], [3]]),
            {"alpha": 1.0, "beta": 1.0},
            [log(1 + exp(-2)), log(1 + exp(1)), log(1 + exp(-1))],
        ),
        {"alpha": 2.0, "beta": 1.5, "length": 3},
        zero_if_same=False,  # a likelihood
    ),
    "dark_rank of all rows": Case(
        losses.dark_rank,
        formulas.dark_rank,
        draw.pair(5, 3, teacher=(5, 4)),
        # one at the other's place: nothing to choose
        (both([[0], [1]], [[0], [2]]), {"length": None}, [0, 0]),
        {"length": None},
        zero_if_same=False,
    ),
}
