"""Rows of the losses of `losses/features/` between feature maps."""

from math import exp, log, sqrt

import numpy as np

from mmkd_jax import losses
from tests.losses.cases.case import Case, Sampler, both
from tests.losses.formulas import maps as formulas

draw = Sampler(5)


def tuples(rows, student, teacher):
    """Maps of several layers."""
    return {
        "student": tuple(draw(rows, *shape) for shape in student),
        "teacher": tuple(draw(rows, *shape) for shape in teacher),
    }


def column(*values):
    """One map of one channel."""
    return np.reshape(values, (1, len(values), 1, 1)).astype(float)


# flows: the student's (1, 3) pooled, times 2; the teacher's 1 · 2
two_maps = {"student": (column(1, 3), column(2)), "teacher": (column(1), column(2))}
# patterns (3, 4) / 5 and (4, 3) / 5: their product is 24/25, their squared distance 2 − 48/25
two_patterns = both(column(3, 4), column(4, 3))
# products of channels: 1 and 0 in the student, all 1 in the teacher
two_channels = both([[[[1, 0], [0, 1]]]], [[[[1, 1], [0, 0]]]])
# cosines: 1 and 0 in the student, all 1 in the teacher
two_positions = both([[[[1, 0], [0, 1]]]], [[[[2], [3]]]])

CASES = {
    "fsp": Case(
        losses.fsp,
        formulas.fsp,
        tuples(4, [(3, 5, 2), (2, 2, 3), (2, 3, 2)], [(2, 2, 2), (4, 2, 3), (2, 1, 2)]),
        (two_maps, {}, [(3 * 2 - 1 * 2) ** 2]),
    ),
    "fsp, pooled by the average": Case(
        losses.fsp,
        formulas.fsp,
        tuples(4, [(3, 5, 2), (2, 2, 3)], [(2, 2, 2), (1, 2, 3)]),
        (two_maps, {"pool": "average"}, [(2 * 2 - 1 * 2) ** 2]),
        {"pool": "average"},
    ),
    "nst": Case(
        losses.nst,
        formulas.nst,
        draw.pair(4, 2, 3, 2, teacher=(4, 2, 3, 5)),
        (two_patterns, {}, [2 - 2 * (24 / 25) ** 2]),
        still_at_zero=True,
    ),
    "nst, linear": Case(
        losses.nst,
        formulas.nst,
        draw.pair(4, 2, 3, 2, teacher=(4, 2, 3, 5)),
        (two_patterns, {"kernel": "linear"}, [2 - 48 / 25]),
        {"kernel": "linear"},
        still_at_zero=True,
    ),
    "nst, gaussian": Case(
        losses.nst,
        formulas.nst,
        draw.pair(4, 2, 3, 2, teacher=(4, 2, 3, 5)),
        # the only pair is as far apart as the mean
        (two_patterns, {"kernel": "gaussian"}, [2 - 2 * exp(-1 / 2)]),
        {"kernel": "gaussian"},
        still_at_zero=True,
    ),
    "activation_boundary": Case(
        losses.activation_boundary,
        formulas.activation_boundary,
        draw.pair(4, 2, 2, 3),
        # short of the margin by 1/2, by nothing, by 1/2 on the negative side, by 2
        (both([[0.5, 2, -0.5, -1]], [[1, 0.1, -2, 3]]), {}, [1 / 4 + 0 + 1 / 4 + 4]),
        {"margin": 0.7},
        zero_if_same=False,  # a weak activation is short of the margin
    ),
    "cwd": Case(
        losses.cwd,
        formulas.cwd,
        draw.pair(4, 2, 3, 2),
        # p = (3/4, 1/4), q = (1/2, 1/2)
        (both(column(0, 0), column(2 * log(3), 0)), {"temperature": 2.0}, [4 * (log(3 / 2) * 3 / 4 + log(1 / 2) / 4)]),
        {"temperature": 4.0},
    ),
    "ickd": Case(
        losses.ickd,
        formulas.ickd,
        draw.pair(4, 2, 3, 2, teacher=(4, 1, 5, 2)),
        # rows of the Gram matrices: (1, 0), (0, 1) and twice (1, 1) / √2
        (two_channels, {}, [(1 - sqrt(0.5)) ** 2 + 0.5]),
        still_at_zero=True,
    ),
    "ickd as in the paper": Case(
        losses.ickd,
        formulas.ickd,
        draw.pair(4, 2, 3, 2, teacher=(4, 1, 5, 2)),
        # the two matrices differ by 1 off the diagonal
        (two_channels, {"form": "paper"}, [2 / 4]),
        {"form": "paper"},
    ),
    "affinity": Case(
        losses.affinity,
        formulas.affinity,
        draw.pair(4, 2, 3, 2, teacher=(4, 2, 3, 5)),
        (two_positions, {}, [1]),
        zero_if_same=False,  # a norm has a kink at 0: rounding decides on its side
        still_at_zero=True,
    ),
    "pairwise_affinity": Case(
        losses.pairwise_affinity,
        formulas.pairwise_affinity,
        draw.pair(4, 2, 3, 2, teacher=(4, 2, 3, 5)),
        (two_positions, {}, [2 / 4]),
        still_at_zero=True,
    ),
}
