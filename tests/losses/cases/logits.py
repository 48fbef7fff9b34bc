"""Rows of the losses of `losses/logits/`."""

from math import exp, log, sqrt

import numpy as np

from mmkd_jax import losses
from tests.losses.cases.case import Case, Sampler, both, labels
from tests.losses.formulas import logits as formulas

draw = Sampler(0)
SOFT = draw.rng.dirichlet(np.ones(6), (2, 3)) * (np.arange(6) < 5)
SOFT = SOFT / SOFT.sum(-1, keepdims=True)
WEIGHTS = np.array([0.5, 1.0, 2.0, 0.7, 1.5, 3.0])
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
    "cross_entropy, soft labels": Case(
        losses.cross_entropy,
        formulas.cross_entropy,
        {"logits": draw(2, 3, 6), "labels": SOFT},
        (
            {"logits": np.array([[0.0, log(3)]]), "labels": np.array([[0.5, 0.5]])},
            {},
            [0.5 * log(4) + 0.5 * log(4 / 3)],
        ),
        zero_if_same=False,
        infinite=(),
    ),
    "weighted_cross_entropy": Case(
        losses.weighted_cross_entropy,
        formulas.weighted_cross_entropy,
        {"logits": draw(4, 6), "labels": labels(0, 3, 2, 1), "class_weights": WEIGHTS},
        (
            {"logits": np.array([[0, log(3)]] * 2), "labels": labels(1, 0), "class_weights": np.array([2.0, 1.0])},
            {"normalize": True},
            # times 2 / 3
            [2 / 3 * log(4 / 3), 4 / 3 * log(4)],
        ),
        {"normalize": True},
        zero_if_same=False,
        infinite=(),
    ),
    "weighted_cross_entropy, soft labels": Case(
        losses.weighted_cross_entropy,
        formulas.weighted_cross_entropy,
        {"logits": draw(2, 3, 6), "labels": SOFT, "class_weights": WEIGHTS},
        (
            {
                "logits": np.array([[0.0, log(3)]]),
                "labels": np.array([[0.5, 0.5]]),
                "class_weights": np.array([2.0, 1.0]),
            },
            {},
            [log(4) + 0.5 * log(4 / 3)],
        ),
        zero_if_same=False,
        infinite=(),
    ),
    "nkd": Case(
        losses.nkd,
        formulas.nkd,
        draw.pair(2, 3, 6) | {"labels": LABELS},
        # p = (1/2, 1/4, 1/4), q = (1/4, 1/4, 1/2); without class 0: (1/2, 1/2) and (1/3, 2/3)
        (
            both([[0, 0, log(2)]], [[log(2), 0, 0]], labels=labels(0)),
            {"gamma": 2.0},
            [0.5 * log(4) + 2 * (0.5 * log(3) + 0.5 * log(3 / 2))],
        ),
        {"gamma": 0.7, "temperature": 2.0},
        zero_if_same=False,
        infinite=("student",),
    ),
    "wsld": Case(
        losses.wsld,
        formulas.wsld,
        draw.pair(2, 3, 6) | {"labels": LABELS},
        # cross-entropies log 2 and log 4/3; the soft one is log 2 whatever the teacher says
        (
            both([[0, 0]], [[log(3), 0]], labels=labels(0)),
            {"temperature": 1.0},
            [(1 - exp(-log(2) / log(4 / 3))) * log(2)],
        ),
        {"temperature": 2.0},
        zero_if_same=False,
        infinite=("student",),
        stopped=formulas.wsld_with_the_weight_of,
    ),
    "probability_mse": Case(
        losses.probability_mse,
        formulas.probability_mse,
        draw.pair(2, 3, 6),
        # (1/2, 1/2) and (3/4, 1/4), T² = 4
        (both([[0, 0]], [[2 * log(3), 0]]), {"temperature": 2.0}, [1 / 4]),
        {"temperature": 3.0},
        infinite=(),
    ),
    "binary_cross_entropy": Case(
        losses.binary_cross_entropy,
        formulas.binary_cross_entropy,
        {"logits": draw(2, 3, 6), "labels": SOFT},
        # probabilities 1/2 and 3/4
        (
            {"logits": np.array([[0.0, log(3)]]), "labels": np.array([[1.0, 0.5]])},
            {},
            [(log(2) - 0.5 * log(3 / 4) - 0.5 * log(1 / 4)) / 2],
        ),
        zero_if_same=False,
        infinite=(),
    ),
    "ordinal_coral": Case(
        losses.ordinal_coral,
        formulas.ordinal_coral,
        {"logits": draw(2, 3, 6), "levels": np.array([[0, 6, 3], [5, 1, 2]])},
        # σ = 1/2, 3/4: above the first threshold only
        ({"logits": np.array([[0.0, log(3)]]), "levels": np.array([1])}, {}, [log(2) + log(4)]),
        zero_if_same=False,
    ),
    "ordinal_corn": Case(
        losses.ordinal_corn,
        formulas.ordinal_corn,
        {"logits": draw(2, 3, 6), "levels": np.array([[0, 6, 3], [5, 1, 2]])},
        # of level 0, the first threshold decides alone
        ({"logits": np.array([[0.0, log(3)], [0.0, log(3)]]), "levels": np.array([0, 2])}, {}, [log(2), log(8 / 3)]),
        zero_if_same=False,
    ),
    "binary_kl": Case(
        losses.binary_kl,
        formulas.binary_kl,
        draw.pair(2, 3, 6),
        # p = (3/4, 1/2), q = (1/2, 1/2), T² = 4
        (both([[0, 0]], [[2 * log(3), 0]]), {"temperature": 2.0}, [3 * log(3 / 2) + log(1 / 2)]),
        {"temperature": 3.0},
        infinite=("student",),
    ),
    "weighted_kl": Case(
        losses.weighted_kl,
        formulas.weighted_kl,
        draw.pair(2, 3, 6) | {"class_weights": WEIGHTS},
        # (1/2, 1/2) weighted by (3, 1) is (3/4, 1/4)
        (
            both([[0, 0]], [[0, 0]], class_weights=np.array([3.0, 1.0])),
            {"temperature": 1.0},
            [0.75 * log(3 / 2) + 0.25 * log(1 / 2)],
        ),
        {"temperature": 3.0},
        zero_if_same=False,
        infinite=("student",),
    ),
    "dist": Case(
        losses.dist,
        formulas.dist,
        draw.pair(4, 6),
        # row 0 alike, row 1 of the teacher does not vary; each class goes up in both
        (both([[0, log(3)], [log(3), 0]], [[0, log(3)], [0, 0]]), {"beta": 3.0, "temperature": 1.0}, [0.0, 3.0]),
        {"beta": 0.7, "gamma": 2.0, "temperature": 2.0},
        zero_if_same=False,  # the 1e-8 in the denominator keeps the correlation below 1
        infinite=(),
    ),
    "dist, norms clamped": Case(
        losses.dist,
        formulas.dist,
        draw.pair(4, 6),
        # each row and each class goes the other way
        (both([[0, log(3)], [log(3), 0]], [[1, 0], [0, 1]]), {"gamma": 2.0, "eps": "clamped"}, [6.0, 6.0]),
        {"beta": 0.7, "gamma": 2.0, "eps": "clamped"},
        infinite=(),
    ),
    "mlkd_batch": Case(
        losses.mlkd_batch,
        formulas.mlkd_batch,
        draw.pair(4, 6),
        # (1/2, 1/2) and (3/4, 1/4): squares 1/2 and 5/8
        (both([[0, 0]], [[log(3), 0]]), {"temperature": 1.0}, [1 / 64]),
        {"temperature": 2.0},
        infinite=(),
    ),
    "mlkd_class": Case(
        losses.mlkd_class,
        formulas.mlkd_class,
        draw.pair(4, 6),
        # in sixteenths: 4 4 4 4 and 9 3 3 1
        (both([[0, 0]], [[log(3), 0]]), {"temperature": 1.0}, (25 + 1 + 1 + 9) / 256 / 2),
        {"temperature": 2.0},
        infinite=(),
    ),
    "mft": Case(
        losses.mft,
        formulas.mft,
        draw.pair(2, 3, 6) | {"labels": LABELS},
        # (1/2, 1/2) becomes (0.4, 0.6); (3/4, 1/4) becomes (0.95, 0.05)
        (
            both([[0, 0], [0, 0]], [[0, 0], [log(3), 0]], labels=labels(1, 0)),
            {"threshold": 0.2},
            [0.4 * log(0.8) + 0.6 * log(1.2), 0.95 * log(1.9) + 0.05 * log(0.1)],
        ),
        {"threshold": 0.1, "temperature": 2.0},
        zero_if_same=False,
        infinite=("student",),
    ),
    "standardize": Case(
        losses.standardize,
        formulas.standardize,
        {"logits": draw(2, 3, 6)},
        # mean 4, variance (9 + 1 + 16) / 2
        ({"logits": np.array([[1.0, 3.0, 8.0]])}, {}, [[-3 / sqrt(13), -1 / sqrt(13), 4 / sqrt(13)]]),
        zero_if_same=False,
    ),
    "skew_kl": Case(
        losses.skew_kl,
        formulas.skew_kl,
        draw.pair(2, 3, 6),
        # p = (3/4, 1/4), q = (1/4, 3/4), half of each is (1/2, 1/2)
        (both([[0, log(3)]], [[log(3), 0]]), {"alpha": 0.5}, [0.75 * log(3 / 2) + 0.25 * log(1 / 2)]),
        {"alpha": 0.3, "temperature": 2.0},
        infinite=(),
    ),
}
