"""Rows of the losses of `losses/ranking/`."""

from math import exp, log, log1p

import numpy as np

from mmkd_jax import losses
from tests.losses.cases.case import Case, Sampler, both, labels
from tests.losses.formulas import ranking as formulas

draw = Sampler(23)
EYE, TIE = np.eye(2), np.array([[1.0, 0.0], [1.0, 0.0]])
NEAR = exp(1) / (1 + exp(1))
SOFT = {"temperature": 0.5, "teacher_temperature": 0.7}
ONE = {"temperature": 1.0, "teacher_temperature": 1.0}
HARD = np.arange(6) < np.array([6, 3, 4, 2])[:, None]
TOKENS = np.arange(4) < np.array([4, 2, 1])[:, None]


def sides(query, document, **ids):
    return {"query": np.asarray(query, float), "document": np.asarray(document, float)} | ids


def towers(*widths):
    return {side: (draw(5, width), draw(5, width)) for side, width in zip(("student", "teacher"), widths, strict=True)}


def kl(p, q):
    return p * log(p / q) + (1 - p) * log((1 - p) / (1 - q))


CASES = {
    "in_batch_nll": Case(
        losses.in_batch_nll,
        formulas.in_batch_nll,
        sides(draw(5, 3), draw(5, 3)),
        (sides(EYE, 2 * EYE), {"temperature": 1.0}, 2 * [log1p(exp(-1))]),
        {"temperature": 0.5},
        zero_if_same=False,
    ),
    "in_batch_nll of inner products, both directions": Case(
        losses.in_batch_nll,
        formulas.in_batch_nll,
        sides(draw(5, 3), draw(5, 3)),
        # to the documents (2, 2) a tie each; back, row 0 is 2 ahead, row 1 is 2 behind
        (
            sides(EYE, [[2, 2], [0, 0]]),
            {"temperature": 1.0, "similarity": "dot", "symmetric": True},
            [(log1p(exp(-2)) + log(2)) / 2, (log1p(exp(2)) + log(2)) / 2],
        ),
        {"temperature": 0.5, "similarity": "dot", "symmetric": True},
        zero_if_same=False,
    ),
    "in_batch_nll of repeated documents": Case(
        losses.in_batch_nll,
        formulas.in_batch_nll,
        sides(draw(6, 3), draw(6, 3), query_id=labels(0, 1, 2, 3, 4, 0), document_id=labels(0, 1, 0, 2, 3, 4)),
        # rows 0 and 1 have one document: each has the negative of row 2 only
        (
            sides([[1, 0], [1, 0], [0, 1]], [[1, 0], [1, 0], [0, 1]], document_id=labels(4, 4, 2)),
            {"temperature": 1.0},
            [log1p(exp(-1)), log1p(exp(-1)), log1p(2 * exp(-1))],
        ),
        {"temperature": 0.5, "symmetric": True},
        zero_if_same=False,
    ),
    "in_batch_kl": Case(
        losses.in_batch_kl,
        formulas.in_batch_kl,
        towers(3, 4),
        ({"student": (EYE, TIE), "teacher": (EYE, 2 * EYE)}, ONE, 2 * [kl(NEAR, 0.5)]),
        SOFT,
        zero_if_same=False,  # the two temperatures differ
        still_at_zero=True,
    ),
    "in_batch_kl of inner products": Case(
        losses.in_batch_kl,
        formulas.in_batch_kl,
        towers(3, 3),
        # log 3 ahead, or behind, is (3/4, 1/4)
        (
            {"student": (EYE, TIE), "teacher": (log(3) * EYE, EYE)},
            ONE | {"similarity": "dot"},
            [kl(0.75, 0.5), kl(0.75, 0.5)],
        ),
        {"temperature": 0.5, "teacher_temperature": 0.5, "similarity": "dot"},
    ),
    "listwise_kl": Case(
        losses.listwise_kl,
        formulas.listwise_kl,
        draw.pair(4, 6),
        # p = (3/4, 1/4), q = (1/2, 1/2), T² = 4
        (both([[0, 0]], [[2 * log(3), 0]]), {"temperature": 2.0}, [3 * log(3 / 2) + log(1 / 2)]),
        {"temperature": 2.0},
        infinite=("student",),
    ),
    "listwise_kl of fewer candidates": Case(
        losses.listwise_kl,
        formulas.listwise_kl,
        draw.pair(4, 6) | {"mask": HARD},
        # the third does not count; with one candidate, and with none, nothing is to be learned
        (
            both(
                3 * [[0, 0, 9]],
                3 * [[log(3), 0, -5]],
                mask=np.array([[True, True, False], [True, False, False], 3 * [False]]),
            ),
            {},
            [kl(0.75, 0.5), 0, 0],
        ),
        {"temperature": np.array([1.0, 2.0, 0.5, 3.0])},
    ),
    "margin_mse": Case(
        losses.margin_mse,
        formulas.margin_mse,
        {"student": (draw(5), draw(5)), "teacher": (draw(5), draw(5))},
        # margins 2 and 3; 1 and −1; −1 and −1
        (
            {
                "student": (np.array([3.0, 1.0, 0.0]), np.array([1.0, 0.0, 1.0])),
                "teacher": (np.array([3.0, 0.0, 4.0]), np.array([0.0, 1.0, 5.0])),
            },
            {},
            [1, 4, 0],
        ),
    ),
    "margin_mse of several documents": Case(
        losses.margin_mse,
        formulas.margin_mse,
        {"student": (draw(5), draw(5, 3)), "teacher": (draw(5), draw(5, 3))},
        # margins (2, 0) and (1, −2)
        (
            {
                "student": (np.array([3.0]), np.array([[1.0, 3.0]])),
                "teacher": (np.array([1.0]), np.array([[0.0, 3.0]])),
            },
            {},
            [(1 + 4) / 2],
        ),
    ),
    "max_sim": Case(
        losses.max_sim,
        formulas.max_sim,
        sides(draw(3, 4, 2), draw(3, 5, 2), query_mask=TOKENS, document_mask=np.arange(5) < np.array([[5], [3], [1]])),
        # 1 + 3; the second token of the document is padding: 1 − 1; no document; no query
        (
            sides(
                [[[1, 0], [0, 1]], [[1, 0], [0, 1]], EYE, EYE],
                [[[1, 0], [0, 3]], [[1, -1], [9, 9]], EYE, EYE],
                query_mask=np.array([[True, True]] * 3 + [[False, False]]),
                document_mask=np.array([[True, True], [True, False], [False, False], [True, True]]),
            ),
            {},
            [4, 0, 0, 0],
        ),
        zero_if_same=False,
    ),
}
