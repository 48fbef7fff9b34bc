"""One row a loss: inputs, hyperparameters, a value worked out by hand, and the paper's formula in plain NumPy.

A new loss adds one row to `CASES` and its formula to `formulas.py`; the tests hold every row to the contract.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from math import log, log1p, sqrt
from typing import Any

import numpy as np

from mmkd_jax import losses
from mmkd_jax.losses.number import Number

from . import formulas


@dataclass(frozen=True, eq=False)
class Case:
    """What the contract is checked with.

    Attributes:
        loss: the function.
        reference: the same from the paper's formula, in NumPy: one value per row.
        inputs: arrays in the order of the loss's arguments; floating ones in float64.
        hyper: keyword hyperparameters.
        by_hand: (inputs, hyper, values), worked out with pencil and paper.
        zero_if_same: a student equal to its teacher gets the value 0 and the gradient 0.
        still_at_zero: a zero row gets the gradient 0, as the loss divides by the row's norm.
    """

    loss: Callable
    reference: Callable
    inputs: dict[str, np.ndarray]
    by_hand: tuple[dict, dict, list]
    hyper: dict[str, Any] = field(default_factory=dict)
    zero_if_same: bool = True
    still_at_zero: bool = False

    @property
    def couples(self) -> bool:
        """Whether the loss relates the rows of a batch."""
        return "where" in inspect.signature(self.loss).parameters

    @property
    def logits(self) -> bool:
        """Whether the last axis is classes, which may be at −inf."""
        return self.loss.__module__.endswith(".logits")

    @property
    def numbers(self) -> list[str]:
        """Hyperparameters that may be traced."""
        return [k for k, p in inspect.signature(self.loss).parameters.items() if p.annotation == Number]

    @property
    def floating(self) -> list[str]:
        """Inputs with a gradient."""
        return [k for k, x in self.inputs.items() if x.dtype.kind == "f"]


RNG = np.random.default_rng(0)
LABELS = np.array([0, 3, 2, 1, 3], np.int32)  # never the last class, which the tests remove
L3 = log(3)
EYE = np.eye(2)


def pair(*shape, teacher=None):
    return {"student": RNG.normal(size=shape), "teacher": RNG.normal(size=teacher or shape)}


def both(student, teacher, **more):
    return {"student": np.array(student, float), "teacher": np.array(teacher, float), **more}


def labels(*y):
    return np.array(y, np.int32)


CASES = {
    "cross_entropy": Case(
        losses.cross_entropy,
        formulas.cross_entropy,
        {"logits": RNG.normal(size=(5, 6)), "labels": LABELS},
        ({"logits": np.array([[0.0, L3]]), "labels": labels(1)}, {}, [log(4 / 3)]),
        zero_if_same=False,
    ),
    "cross_entropy smoothed": Case(
        losses.cross_entropy,
        formulas.cross_entropy,
        {"logits": RNG.normal(size=(5, 6)), "labels": LABELS},
        # q = (0.1, 0.9)
        (
            {"logits": np.array([[0.0, L3]]), "labels": labels(1)},
            {"label_smoothing": 0.2},
            [0.1 * log(4) + 0.9 * log(4 / 3)],
        ),
        {"label_smoothing": 0.3},
        zero_if_same=False,
    ),
    "kl": Case(
        losses.kl,
        formulas.kl,
        pair(5, 6),
        # p = (3/4, 1/4), q = (1/2, 1/2), T² = 4
        (both([[0, 0]], [[2 * L3, 0]]), {"temperature": 2.0}, [3 * log(3 / 2) + log(1 / 2)]),
        {"temperature": 3.0},
    ),
    "kl, a temperature per example": Case(
        losses.kl,
        formulas.kl,
        pair(5, 6),
        (
            both([[0, 0], [0, 0]], [[2 * L3, 0], [L3, 0]]),
            {"temperature": np.array([2.0, 1.0])},
            [3 * log(3 / 2) + log(1 / 2), 0.75 * log(3 / 2) + 0.25 * log(1 / 2)],
        ),
        {"temperature": np.array([1.0, 2.0, 0.5, 4.0, 3.0])},
    ),
    "reverse_kl": Case(
        losses.reverse_kl,
        formulas.reverse_kl,
        pair(5, 6),
        (both([[0, 0]], [[2 * L3, 0]]), {"temperature": 2.0}, [2 * log(2 / 3) + 2 * log(2)]),
        {"temperature": 3.0},
    ),
    "jsd": Case(
        losses.jsd,
        formulas.jsd,
        pair(5, 6),
        # p = (1/4, 3/4), q = (3/4, 1/4), m = (5/8, 3/8)
        (
            both([[L3, 0]], [[0, L3]]),
            {"beta": 0.25},
            [
                0.25 * (0.25 * log(2 / 5) + 0.75 * log(2))  # β KL(p ‖ m)
                + 0.75 * (0.75 * log(6 / 5) + 0.25 * log(2 / 3))
            ],
        ),
        {"beta": 0.3, "temperature": 2.0},
    ),
    "logit_mse": Case(losses.logit_mse, formulas.mean_square, pair(5, 6), (both([[1, 3]], [[0, 0]]), {}, [5.0])),
    "dkd": Case(
        losses.dkd,
        formulas.dkd,
        pair(5, 6) | {"labels": LABELS},
        # p = (1/2, 1/4, 1/4), q = (1/4, 1/4, 1/2); without class 0: (1/2, 1/2) and (1/3, 2/3)
        (
            both([[0, 0, log(2)]], [[log(2), 0, 0]], labels=labels(0)),
            {"temperature": 1.0, "alpha": 3.0, "beta": 2.0},
            [3 * (0.5 * log(2) + 0.5 * log(2 / 3)) + 2 * (0.5 * log(3 / 2) + 0.5 * log(3 / 4))],
        ),
        {"alpha": 0.7, "beta": 3.0, "temperature": 2.0},
    ),
    "hint": Case(losses.hint, formulas.mean_square, pair(4, 3, 2), (both([[1, 3]], [[1, 1]]), {}, [2.0])),
    "cosine": Case(
        losses.cosine, formulas.cosine, pair(5, 3), (both([[3, 4]], [[4, 3]]), {}, [1 - 24 / 25]), still_at_zero=True
    ),
    "attention_transfer": Case(
        losses.attention_transfer,
        formulas.attention_transfer,
        pair(3, 2, 2, 3, teacher=(3, 2, 2, 4)),
        # maps (1, 2) / √5 and (2, 1) / √5
        (both([[[[1], [-2]]]], [[[[2], [1]]]]), {"power": 1.0}, [1 / 5]),
        {"power": 3.0},
        still_at_zero=True,
    ),
    "attention_transfer as in the paper": Case(
        losses.attention_transfer,
        formulas.attention_transfer,
        pair(3, 2, 2, 3, teacher=(3, 2, 2, 4)),
        (both([[[[1], [-2]]]], [[[[2], [1]]]]), {"power": 1.0, "form": "paper"}, [sqrt(2 / 5)]),
        {"form": "paper"},
        still_at_zero=True,
    ),
    "rkd_distance": Case(
        losses.rkd_distance,
        formulas.rkd_distance,
        pair(5, 3, teacher=(5, 4)),
        # distances 1, 3, 2 over their mean 2; 1, 2, 1 over 4/3: the differences are −1/4, 0, 1/4
        (both([[0], [1], [3]], [[0], [1], [2]]), {}, [1 / 96, 2 / 96, 1 / 96]),
    ),
    "rkd_angle": Case(
        losses.rkd_angle,
        formulas.rkd_angle,
        pair(4, 3, teacher=(4, 5)),
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
        pair(5, 3, 2, teacher=(5, 4)),
        # rows of the Gram matrices: (1, 0) and (1, 1) / √2
        (both(EYE, [[1, 0], [1, 0]]), {}, 2 * [((1 - sqrt(0.5)) ** 2 + 0.5) / 2]),
    ),
    "pkt": Case(
        losses.pkt,
        formulas.pkt,
        pair(5, 3, teacher=(5, 4)),
        # q = (2/3, 1/3), p = (1, 0), up to the 1e-7 of the authors
        (both(EYE, [[1, 0], [-1, 0]]), {}, 2 * [log(3 / 2) / 2]),
        still_at_zero=True,
    ),
    "info_nce": Case(
        losses.info_nce,
        formulas.info_nce,
        pair(5, 3),
        (both(EYE, 2 * EYE), {"temperature": 1.0}, 2 * [log1p(np.exp(-1))]),
        {"temperature": 0.5},
        zero_if_same=False,
        still_at_zero=True,
    ),
    "info_nce, both directions": Case(
        losses.info_nce,
        formulas.info_nce,
        pair(5, 3),
        # towards the teacher both rows see a tie; back, row 0 is 1 ahead and row 1 is 1 behind
        (
            both(EYE, [[1, 0], [1, 0]]),
            {"temperature": 1.0, "symmetric": True},
            [(log(2) + log1p(np.exp(-1))) / 2, (log(2) + log1p(np.exp(1))) / 2],
        ),
        {"temperature": 0.5, "symmetric": True},
        zero_if_same=False,
        still_at_zero=True,
    ),
}
