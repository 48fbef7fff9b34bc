"""Rows of the losses of `losses/logits/`."""

from math import log

import numpy as np

from mmkd_jax import losses
from tests.losses.cases.case import Case, both, labels, sampler
from tests.losses.formulas import logits as formulas

draw = sampler(0)
LABELS = np.array([[0, 3, 2], [1, 3, 4]], np.int32)  # never the last class, which the tests remove

CASES = {
    "cross_entropy": Case(
        losses.cross_entropy,
        formulas.cross_entropy,
        {"logits": draw(2, 3, 6), "labels": LABELS},
        ({"logits": np.array([[0.0, log(3)]]), "labels": labels(1)}, {}, [log(4 / 3)]),
        zero_if_same=False,
        infinite=(),
    ),
    "cross_entropy smoothed": Case(
        losses.cross_entropy,
        formulas.cross_entropy,
        {"logits": draw(2, 3, 6), "labels": LABELS},
        # q = (0.1, 0.9)
        (
            {"logits": np.array([[0.0, log(3)]]), "labels": labels(1)},
            {"label_smoothing": 0.2},
            [0.1 * log(4) + 0.9 * log(4 / 3)],
        ),
        {"label_smoothing": 0.3},
        zero_if_same=False,
        infinite=(),
    ),
    "kl": Case(
        losses.kl,
        formulas.kl,
        draw.pair(2, 3, 6),
        # p = (3/4, 1/4), q = (1/2, 1/2), T² = 4
        (both([[0, 0]], [[2 * log(3), 0]]), {"temperature": 2.0}, [3 * log(3 / 2) + log(1 / 2)]),
        {"temperature": 3.0},
        infinite=("student",),
    ),
    "kl, a temperature per example": Case(
        losses.kl,
        formulas.kl,
        draw.pair(2, 3, 6),
        (
            both([[0, 0], [0, 0]], [[2 * log(3), 0], [log(3), 0]]),
            {"temperature": np.array([2.0, 1.0])},
            [3 * log(3 / 2) + log(1 / 2), 0.75 * log(3 / 2) + 0.25 * log(1 / 2)],
        ),
        {"temperature": np.array([[1.0, 2.0, 0.5], [4.0, 3.0, 1.5]])},
        infinite=("student",),
    ),
    "reverse_kl": Case(
        losses.reverse_kl,
        formulas.reverse_kl,
        draw.pair(2, 3, 6),
        (both([[0, 0]], [[2 * log(3), 0]]), {"temperature": 2.0}, [2 * log(2 / 3) + 2 * log(2)]),
        {"temperature": 3.0},
        infinite=("teacher",),
    ),
    "jsd": Case(
        losses.jsd,
        formulas.jsd,
        draw.pair(2, 3, 6),
        # p = (1/4, 3/4), q = (3/4, 1/4), m = (5/8, 3/8)
        (
            both([[log(3), 0]], [[0, log(3)]]),
            {"beta": 0.25},
            [
                0.25 * (0.25 * log(2 / 5) + 0.75 * log(2))  # β KL(p ‖ m)
                + 0.75 * (0.75 * log(6 / 5) + 0.25 * log(2 / 3))
            ],
        ),
        {"beta": 0.3, "temperature": 2.0},
        infinite=(),
    ),
    "logit_mse": Case(
        losses.logit_mse,
        formulas.logit_mse,
        draw.pair(2, 3, 6),
        (both([[1, 3]], [[0, 0]]), {}, [5.0]),
        infinite=("student", "teacher"),
    ),
    "dkd": Case(
        losses.dkd,
        formulas.dkd,
        draw.pair(2, 3, 6) | {"labels": LABELS},
        # p = (1/2, 1/4, 1/4), q = (1/4, 1/4, 1/2); without class 0: (1/2, 1/2) and (1/3, 2/3)
        (
            both([[0, 0, log(2)]], [[log(2), 0, 0]], labels=labels(0)),
            {"temperature": 1.0, "alpha": 3.0, "beta": 2.0},
            [3 * (0.5 * log(2) + 0.5 * log(2 / 3)) + 2 * (0.5 * log(3 / 2) + 0.5 * log(3 / 4))],
        ),
        {"alpha": 0.7, "beta": 3.0, "temperature": 2.0},
        infinite=("student",),
    ),
}
