"""Rows of the losses that go with parameters of their own: regressors, factors, margins, a generation block."""

from math import log, sqrt

import numpy as np

from mmkd_jax import losses
from tests.losses.cases.case import Case, Sampler, both
from tests.losses.formulas import own as formulas

draw = Sampler(7)


def regressed(*shape, variance):
    return {"mean": draw(*shape), "variance": np.exp(draw(*variance)), "teacher": draw(*shape)}


def block(c, d):
    return (draw(3, 3, c, d), draw(d), draw(3, 3, d, c), draw(c))


def center(c, d, value):
    """A kernel that sees one place only."""
    kernel = np.zeros((3, 3, c, d))
    kernel[1, 1] = value
    return kernel


CASES = {
    "vid": Case(
        losses.vid,
        formulas.vid,
        regressed(4, 2, 3, variance=(3,)),
        # (4 / 2 + log 2) / 2 and (0 + log 4) / 2
        (
            {"mean": np.array([[1.0, 5.0]]), "variance": np.array([2.0, 4.0]), "teacher": np.array([[3.0, 5.0]])},
            {},
            [(1 + log(2) / 2 + log(2)) / 2],
        ),
        zero_if_same=False,
    ),
    "vid, a variance per feature": Case(
        losses.vid,
        formulas.vid,
        regressed(4, 2, 3, variance=(4, 2, 3)),
        # (1 / 1 + 0) / 2 and (1 / 4 + log 4) / 2
        (
            {"mean": np.array([[0.0], [0.0]]), "variance": np.array([[1.0], [4.0]]), "teacher": np.ones((2, 1))},
            {},
            [1 / 2, 1 / 8 + log(2)],
        ),
        zero_if_same=False,
    ),
    "factor_transfer": Case(
        losses.factor_transfer,
        formulas.factor_transfer,
        draw.pair(4, 2, 3),
        # (3, 4) / 5 and (1, 0)
        (both([[3, 4]], [[2, 0]]), {}, [2 / 5 + 4 / 5]),
        zero_if_same=False,  # a norm has a kink at 0: rounding decides on its side
        still_at_zero=True,
    ),
    "factor_transfer, Euclidean": Case(
        losses.factor_transfer,
        formulas.factor_transfer,
        draw.pair(4, 2, 3),
        (both([[3, 4]], [[2, 0]]), {"power": 2}, [sqrt(4 / 25 + 16 / 25)]),
        {"power": 2},
        zero_if_same=False,
        still_at_zero=True,
    ),
    "ofd": Case(
        losses.ofd,
        formulas.ofd,
        draw.pair(4, 2, 3) | {"margin": np.array([-0.3, -0.8, -0.1])},
        # active: (1 − 2)²; inactive but above the margin: (0.5 + 1)²; far below it: nothing
        (both([[1, 0.5, -5]], [[2, -3, -2]], margin=np.array([-1.0, -1.0, -1.0])), {}, [1 + 2.25]),
    ),
    "mgd": Case(
        losses.mgd,
        formulas.mgd,
        draw.pair(4, 2, 3, 2) | {"mask": draw(4, 2, 3) < 0.3, "block": block(2, 5)},
        # places (1, 2) become (1, 0), twice that plus 1 is (3, 1), less 0.5 and times 2 is (5, 1)
        (
            both([[[[1], [2]]]], [[[[6], [3]]]])
            | {
                "mask": np.array([[[True, False]]]),
                "block": (center(1, 1, 2), np.ones(1), center(1, 1, 2), -np.ones(1)),
            },
            {},
            [(6 - 5) ** 2 + (3 - 1) ** 2],
        ),
        zero_if_same=False,
    ),
    "mgd, channels masked": Case(
        losses.mgd,
        formulas.mgd,
        draw.pair(4, 2, 3, 2) | {"mask": draw(4, 2) < 0.3, "block": block(2, 5)},
        # of the channels (3, 4) the second is kept; their sum 4 is halved in both
        (
            both([[[[3, 4]]]], [[[[1, 2]]]])
            | {
                "mask": np.array([[False, True]]),
                "block": (center(2, 1, 1), np.zeros(1), center(1, 2, 0.5), np.zeros(2)),
            },
            {},
            [1.0],
        ),
        zero_if_same=False,
    ),
}
