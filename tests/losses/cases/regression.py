"""Rows of the losses of `losses/regression/`."""

from math import log

import numpy as np

from mmkd_jax import losses
from tests.losses.cases.case import Case, Sampler, both
from tests.losses.formulas import regression as formulas

draw = Sampler(12)


def pair(*shape):
    return {"predictions": draw(*shape), "targets": draw(*shape)}


def gaussians(student, teacher):
    """A mean and a log-variance each."""
    return {"student": tuple(map(np.array, student)), "teacher": tuple(map(np.array, teacher))}


BY_HAND = {"predictions": np.array([[1.0, 3.0]]), "targets": np.array([[2.0, 1.0]])}
SCALARS = {"predictions": np.array([1.0, 3.0]), "targets": np.array([2.0, 1.0])}

CASES = {
    "mse": Case(losses.mse, formulas.mse, pair(4, 3, 2), (BY_HAND, {}, [5 / 2]), zero_if_same=False),
    "mse of scalars": Case(losses.mse, formulas.mse, pair(5), (SCALARS, {}, [1, 4]), zero_if_same=False),
    "l1": Case(losses.l1, formulas.l1, pair(4, 3, 2), (BY_HAND, {}, [3 / 2]), zero_if_same=False),
    "huber": Case(
        losses.huber,
        formulas.huber,
        pair(4, 3, 2),
        # errors 1 and 2, on both sides of δ
        (BY_HAND, {"delta": 1.5}, [(1 / 2 + 1.5 * (2 - 0.75)) / 2]),
        {"delta": 0.7},
        zero_if_same=False,
    ),
    "bounded_regression": Case(
        losses.bounded_regression,
        formulas.bounded_regression,
        draw.pair(5, 2) | {"targets": draw(5, 2)},
        # the student's squared errors are 2, 2, 5, the teacher's 4, 2.5, 1
        (
            both([[1, 1], [1, 1], [2, 1]], [[2, 0], [1.5, 0.5], [0, 1]], targets=np.zeros((3, 2))),
            {"margin": 1.0},
            [0, 2, 5],
        ),
        {"margin": 2.0},
        zero_if_same=False,  # as good as the teacher is not better by the margin
    ),
    "bounded_regression of scalars": Case(
        losses.bounded_regression,
        formulas.bounded_regression,
        draw.pair(5) | {"targets": draw(5)},
        (both([1, 2], [2, 1], targets=np.zeros(2)), {}, [0, 4]),
        {"margin": 3.0},
        zero_if_same=False,
    ),
    "gaussian_kl": Case(
        losses.gaussian_kl,
        formulas.gaussian_kl,
        {"student": (draw(4, 3), draw(4, 3)), "teacher": (draw(4, 3), draw(4, 3))},
        # σ_s² = 2, σ_t² = 1, one apart; and the other way round, at the same place
        (
            gaussians(([[0.0, 1.0]], [[log(2), 0.0]]), ([[1.0, 1.0]], [[0.0, log(2)]])),
            {},
            [(1 / 2 + 1 / 2 - 1 + log(2) + 2 - 1 - log(2)) / 4],
        ),
    ),
    "gaussian_kl of scalars": Case(
        losses.gaussian_kl,
        formulas.gaussian_kl,
        {"student": (draw(5), draw(5)), "teacher": (draw(5), draw(5))},
        (gaussians(([0.0], [0.0]), ([3.0], [0.0])), {}, [9 / 2]),
    ),
}
