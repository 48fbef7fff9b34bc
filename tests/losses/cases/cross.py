"""Rows of the losses that cross-modal methods brought."""

from math import exp, log, log1p, sqrt

import numpy as np

from mmkd_jax import losses
from tests.losses.cases.case import Case, Sampler, both, labels
from tests.losses.formulas import cross as formulas

draw = Sampler(7)
LABELS = labels(3, 0, 4, 2, 1, 0).reshape(2, 3)
CLASSES = labels(0, 1, 0, 2, 1)


def unsure(*shape, student=None, classes=3):
    """A student's features, and a teacher's features and logits."""
    return {"student": draw(*(student or shape)), "teacher": (draw(*shape), draw(shape[0], classes))}


def relations(student, features, logits):
    return {"student": np.array(student, float), "teacher": (np.array(features, float), np.array(logits, float))}


CASES = {
    "non_target_kl": Case(
        losses.non_target_kl,
        formulas.non_target_kl,
        draw.pair(2, 3, 6) | {"labels": LABELS},
        # without class 0: (1/2, 1/2) and (1/3, 2/3)
        (both([[5, 0, log(2)]], [[-3, 0, 0]], labels=labels(0)), {}, [0.5 * log(3 / 2) + 0.5 * log(3 / 4)]),
        {"temperature": 2.0},
        infinite=("student",),
    ),
    "non_target_kl with the target at zero": Case(
        losses.non_target_kl,
        formulas.non_target_kl,
        draw.pair(2, 3, 6) | {"labels": LABELS},
        # (1/3, 1/3, 1/3) and (1/4, 1/4, 1/2)
        (
            both([[5, 0, log(2)]], [[-3, 0, 0]], labels=labels(0)),
            {"target": "zero"},
            [2 / 3 * log(4 / 3) + 1 / 3 * log(2 / 3)],
        ),
        {"temperature": 2.0, "target": "zero"},
        infinite=("student",),
    ),
    "mmanet": Case(
        losses.mmanet,
        formulas.mmanet,
        unsure(5, 4, student=(5, 3, 2)),
        # rows of the Gram matrices (1, 0), (0, 1) and 2 × (1, 1) / √2; only of row 0 the teacher is unsure
        (
            relations(np.eye(2), [[1, 0], [1, 0]], [[0, 0], [1000, 0]]),
            {},
            [2 * ((1 - sqrt(0.5)) ** 2 + 0.5), 0],
        ),
        zero_if_same=False,  # its logits are no features
    ),
    "mmanet, columns weighed": Case(
        losses.mmanet,
        formulas.mmanet,
        unsure(5, 4, student=(5, 3, 2)),
        # the same, and of both rows the partner 0 counts
        (
            relations(np.eye(2), [[1, 0], [1, 0]], [[0, 0], [1000, 0]]),
            {"weighed": "columns"},
            [2 * (1 - sqrt(0.5)) ** 2, 2 * 0.5],
        ),
        {"weighed": "columns"},
        zero_if_same=False,
    ),
    "ccl": Case(
        losses.ccl,
        formulas.ccl,
        draw.pair(5, 3) | {"labels": CLASSES},
        # each row is 1 ahead of the one other: −log p and −log(1 − q), where 1 − q = p
        (both(np.eye(2), 3 * np.eye(2), labels=labels(0, 1)), {"temperature": 1.0}, 2 * [2 * log1p(exp(-1))]),
        {"temperature": 0.4},
        zero_if_same=False,
        still_at_zero=True,
    ),
    "ccl, both directions": Case(
        losses.ccl,
        formulas.ccl,
        draw.pair(5, 3) | {"labels": CLASSES},
        # towards the teacher both rows see a tie; back, row 0 is 1 ahead and row 1 is 1 behind
        (
            both(np.eye(2), [[1, 0], [1, 0]], labels=labels(0, 1)),
            {"temperature": 1.0, "symmetric": True},
            [2 * log(2) + 2 * log1p(exp(-1)), 2 * log(2) + 2 * log1p(exp(1))],
        ),
        {"temperature": 0.4, "symmetric": True},
        zero_if_same=False,
        still_at_zero=True,
    ),
    "ccl of one class": Case(
        losses.ccl,
        formulas.ccl,
        draw.pair(5, 3) | {"labels": labels(1, 1, 1, 1, 1)},
        # nothing to keep away from
        (both(np.eye(2), np.eye(2), labels=labels(1, 1)), {"temperature": 1.0}, 2 * [0.5 + log1p(exp(-1))]),
        {"temperature": 0.4},
        zero_if_same=False,
        still_at_zero=True,
    ),
}
