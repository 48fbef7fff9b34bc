"""Rows of the losses of `losses/alignment/`."""

from math import exp, log, pi

import numpy as np

from mmkd_jax import losses
from tests.losses.cases.case import Case, Sampler, both
from tests.losses.formulas import alignment as formulas

draw = Sampler(11)
TURNED = [[1, 0, 0], [0, 1, 0]], [[1, 0, 0], [0, 0, 1]]  # planes that share a line and are at right angles


def predictions():
    """Of three modalities; the second row has two of them, the fourth one, the fifth none."""
    masks = (np.array([1, 1, 1, 0, 0], bool), np.array([1, 0, 1, 1, 0], bool), np.array([1, 1, 1, 0, 0], bool))
    return {"logits": tuple(draw(5, 4) for _ in range(3)), "present": masks}


def opposed(p):
    """Two modalities, (p, 1 − p) and (1 − p, p)."""
    z = log(p / (1 - p))
    return {"logits": (np.array([[z, 0.0]]), np.array([[0.0, z]]))}


CASES = {
    "coral": Case(
        losses.coral,
        formulas.coral,
        draw.pair(6, 3),
        # variances 2 and 8
        (both([[0], [2]], [[1], [5]]), {}, 36 / 4),
    ),
    "cmd": Case(
        losses.cmd,
        formulas.cmd,
        draw.pair(6, 3),
        # means 1 and 3 by 2; variances 1 and 4 by 4
        (both([[0], [2]], [[1], [5]]), {"moments": 2, "span": 2.0}, 2 / 2 + 3 / 4),
        {"moments": 4, "span": 1.5},
        places=True,
    ),
    "mmd": Case(
        losses.mmd,
        formulas.mmd,
        draw.pair(6, 3),
        # all four pairs: two of distance 0, two of 2; their mean square is 2
        (both([[0]], [[2]]), {"factors": (1.0,)}, [2 - 2 * exp(-1)]),
        {"bandwidth": 0.7},
        places=True,
    ),
    "mmd of widths that are given": Case(
        losses.mmd,
        formulas.mmd,
        draw.pair(6, 3),
        (both([[0]], [[2]]), {"factors": (1.0, 2.0), "relative": False}, [2 - exp(-2) - exp(-1)]),
        {"bandwidth": 1.3, "factors": (0.5, 3.0), "relative": False},
        places=True,
    ),
    "mmd of a polynomial": Case(
        losses.mmd,
        formulas.mmd,
        draw.pair(6, 3),
        # (0 + 1)³ + (4 + 1)³ − 2 (0 + 1)³
        (both([[0]], [[2]]), {"kernel": "poly"}, [124]),
        {"kernel": "poly"},
        places=True,
    ),
    "cca": Case(
        losses.cca,
        formulas.cca,
        draw.pair(8, 3, teacher=(8, 2)),
        # variances 2 and 8, covariance 4
        (both([[0], [2]], [[1], [5]]), {"r1": 1.0, "r2": 1.0}, -4 / np.sqrt(3 * 9)),
        {"r1": 0.3, "r2": 0.5},
        zero_if_same=False,
    ),
    "cca, the largest correlations": Case(
        losses.cca,
        formulas.cca,
        draw.pair(8, 3),
        # two channels that do not correlate; the second correlates less, by the ridge
        (
            both([[1, 1], [1, -1], [-1, 1], [-1, -1]], [[2, 1], [2, -1], [-2, 1], [-2, -1]]),
            {"components": 1, "r1": 1.0, "r2": 1.0},
            -(8 / 3) / np.sqrt((4 / 3 + 1) * (16 / 3 + 1)),
        ),
        {"components": 2, "r1": 0.3, "r2": 0.5},
        zero_if_same=False,
    ),
    "grassmann": Case(
        losses.grassmann,
        formulas.grassmann,
        draw.pair(8, 4),
        # angles 0 and π / 2
        (both(*TURNED), {"dimensions": 2, "center": False}, 1.0),
        {"dimensions": 2},
    ),
    "grassmann, geodesic": Case(
        losses.grassmann,
        formulas.grassmann,
        draw.pair(8, 4),
        (both(*TURNED), {"dimensions": 2, "center": False, "metric": "geodesic"}, pi**2 / 4),
        {"dimensions": 2, "center": False, "metric": "geodesic"},
    ),
    "sinkhorn": Case(
        losses.sinkhorn,
        formulas.sinkhorn,
        draw.pair(6, 3),
        # one point to one point
        (both([[0, 0]], [[3, 4]]), {}, 25.0),
        {"epsilon": 0.7, "iterations": 200},
        places=True,
    ),
    "sinkhorn of an ε that is given, biased": Case(
        losses.sinkhorn,
        formulas.sinkhorn,
        draw.pair(6, 3),
        (both([[0, 0]], [[3, 4]]), {"relative": False, "debiased": False}, 25.0),
        {"epsilon": 3.0, "iterations": 200, "relative": False, "debiased": False},
        zero_if_same=False,
        places=True,
    ),
    "agreement_jsd": Case(
        losses.agreement_jsd,
        formulas.agreement_jsd,
        predictions(),
        (opposed(0.75), {}, [0.75 * log(1.5) + 0.25 * log(0.5)]),
        {"sharpness": 2.0, "temperature": 1.5},
        zero_if_same=False,
        stopped=formulas.held("jsd"),
    ),
    "agreement_kl": Case(
        losses.agreement_kl,
        formulas.agreement_kl,
        predictions(),
        # from (1/2, 1/2) to (3/4, 1/4)
        (opposed(0.75), {}, [-log(4 * 0.75 * 0.25) / 2]),
        {"sharpness": 2.0, "temperature": 1.5},
        zero_if_same=False,
        stopped=formulas.held("kl"),
    ),
}
