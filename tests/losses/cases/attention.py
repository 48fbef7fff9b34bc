"""Rows of the losses of `losses/attention/`."""

from math import log, sqrt

import numpy as np

from mmkd_jax import losses
from tests.losses.cases.case import Case, Sampler, both
from tests.losses.formulas import attention as formulas
from tests.losses.formulas.common import softmax

draw = Sampler(5)
TOKENS = np.arange(4) < np.array([4, 3, 1])[:, None]
PAIRS = np.tril(np.ones((4, 4), bool)) & (np.arange(4)[:, None] > np.array([-1, 0, 1])[:, None, None])
LOG3 = sqrt(log(3))


def attention():
    """Probabilities after a model's softmax: exactly 0 at the keys that do not count."""
    scores = draw.pair(3, 2, 4, 4)
    return {k: softmax(np.where(TOKENS[:, None, None], x, -np.inf)) for k, x in scores.items()}


def layers(*widths):
    """Several layers' tokens."""
    return tuple(draw(3, 4, d) for d in widths)


def given(*tokens):
    return tuple(np.array(x, float) for x in tokens)


CASES = {
    "attention_mse": Case(
        losses.attention_mse,
        formulas.attention_mse,
        draw.pair(3, 2, 4, 4),
        # (1 + 4 + 9 + 16) / 4
        (both([[[[1, 2], [3, 4]]]], [[[[0, 0], [0, 0]]]]), {}, [7.5]),
    ),
    "attention_mse without padding": Case(
        losses.attention_mse,
        formulas.attention_mse,
        draw.pair(3, 2, 4, 4) | {"mask": TOKENS},
        # what is left of the text is one pair: (3 − 1)²
        (both([[[[3, 2], [3, 4]]]], [[[[1, 0], [0, 0]]]], mask=np.array([[True, False]])), {}, [4.0]),
    ),
    "attention_kl": Case(
        losses.attention_kl,
        formulas.attention_kl,
        attention() | {"mask": TOKENS},
        # query 1: 1 log(1 / ½); query 2: ½ log(½ / ¼) + ½ log(½ / ¾) = ½ log(4 / 3)
        (
            both([[[[1 / 2, 1 / 2], [1 / 4, 3 / 4]]]], [[[[1, 0], [1 / 2, 1 / 2]]]]),
            {},
            [(log(2) + log(4 / 3) / 2) / 2],
        ),
    ),
    "attention_kl of scores": Case(
        losses.attention_kl,
        formulas.attention_kl,
        draw.pair(3, 2, 4, 4) | {"mask": PAIRS},
        # the second query has no key; the first: student (¼, ¾), teacher (½, ½)
        (
            both(
                [[[[0, log(3), 5], [7, 8, 9]]]],
                [[[[2, 2, 9], [0, 1, 5]]]],
                mask=np.array([[[True, True, False], [False, False, False]]]),
            ),
            {"given": "scores"},
            [log(4 / 3) / 2],
        ),
        {"given": "scores"},
    ),
    "minilm_relations": Case(
        losses.minilm_relations,
        formulas.minilm_relations,
        {"student": layers(4, 4, 4), "teacher": layers(6, 6, 6)},
        # two heads of width 1; the first: tokens (0, √log 3), rows (½, ½) and (¼, ¾), the teacher's (½, ½) twice:
        # 0 and ½ log(4 / 3); the second is 0 everywhere: the mean over 2 heads and 2 rows
        (
            {"student": given([[[0, 0], [LOG3, 0]]]), "teacher": given([[[0, 0], [0, 0]]])},
            {"heads": 2},
            [log(4 / 3) / 8],
        ),
        {"heads": 2},
    ),
    "minilm_relations without padding": Case(
        losses.minilm_relations,
        formulas.minilm_relations,
        {"student": layers(3), "teacher": layers(5), "mask": TOKENS},
        # as above, one head, and the third token is padding; the teacher's width 4 divides by 2: 2 log 3 / 2 = log 3
        (
            {
                "student": given([[[0], [0], [0]]]),
                "teacher": given([[[0, 0, 0, 0], [LOG3, LOG3, 0, 0], [9, 9, 9, 9]]]),
                "mask": np.array([[True, True, False]]),
            },
            {"heads": 1},
            # row 2: ¼ log(¼ / ½) + ¾ log(¾ / ½)
            [(log(1 / 2) / 4 + 3 * log(3 / 2) / 4) / 2],
        ),
        {"heads": 1},
    ),
    "hidden_mse": Case(
        losses.hidden_mse,
        formulas.hidden_mse,
        draw.pair(3, 4, 2),
        (both([[[1, 3], [2, 2]]], [[[1, 1], [2, 2]]]), {}, [[2.0, 0.0]]),
    ),
    "patient": Case(
        losses.patient,
        formulas.patient,
        {"student": layers(5, 5), "teacher": layers(5, 5)},
        # (0.6, 0.8) and (1, 0): 0.16 + 0.64; the second layer points the same way; position 1 is not read
        (
            {
                "student": given([[[3, 4], [9, 9]]], [[[0, 2], [9, 9]]]),
                "teacher": given([[[2, 0], [1, 0]]], [[[0, 5], [1, 0]]]),
            },
            {},
            [0.8],
        ),
        still_at_zero=True,
    ),
    "token_fsp": Case(
        losses.token_fsp,
        formulas.token_fsp,
        {"student": layers(2, 5), "teacher": layers(2, 5), "mask": TOKENS},
        # G_s = (1 · 3 + 2 · 1) / 2, G_t = (1 · 1 + 1 · 1) / 2; and of the second text, 2 · 1 and 1 · 1 alone
        (
            {
                "student": given([[[1], [2]], [[2], [9]]], [[[3], [1]], [[1], [9]]]),
                "teacher": given([[[1], [1]], [[1], [5]]], [[[1], [1]], [[1], [5]]]),
                "mask": np.array([[True, True], [True, False]]),
            },
            {},
            [1.5**2, 1.0],
        ),
    ),
    "token_nst": Case(
        losses.token_nst,
        formulas.token_nst,
        {"student": layers(2, 2), "teacher": layers(5, 5), "mask": TOKENS},
        # G_s = [[1, 0], [2, 0]], G_t = [[2 / 2, 0], [0, 0]]: (2 − 0)² / 4
        (
            {"student": given([[[1], [2]]], [[[1], [0]]]), "teacher": given([[[2, 0], [0, 0]]], [[[1, 0], [0, 0]]])},
            {},
            [1.0],
        ),
    ),
}
