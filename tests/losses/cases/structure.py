"""Rows of the losses of `losses/structure/`."""

from math import log

import numpy as np

from mmkd_jax import losses
from tests.losses.cases.case import Case, Sampler, both, labels
from tests.losses.formulas import structure as formulas

draw = Sampler(11)
TOKENS = np.arange(4) < np.array([4, 3, 1])[:, None]
ANSWER = (np.arange(5) > 0) & (np.arange(5) < np.array([5, 3, 3])[:, None])  # each begins at its second token


def chain():
    """Emissions of three texts, transitions of two labels."""
    return draw(3, 4, 2), draw(2, 2)


CASES = {
    "uld": Case(
        losses.uld,
        formulas.uld,
        draw.pair(2, 3, 6),
        # the order of the classes does not matter: (3/4, 1/4) and (1/2, 1/2)
        (both([[[0, log(3)]]], [[[1, 1]]]), {}, [0.5]),
        {"temperature": 2.0},
        infinite=(),
    ),
    "uld of unlike vocabularies": Case(
        losses.uld,
        formulas.uld,
        draw.pair(3, 4, 6, teacher=(3, 5, 4)) | {"mask": TOKENS, "teacher_mask": ANSWER},
        # the student's first token (1/2, 1/2) beside the teacher's second (1/2, 1/4, 1/4): 0 + 1/4 + 1/4
        (
            both(
                [[[0, 0], [7, 8]]],
                [[[5, 1, 9], [log(2), 0, 0]]],
                mask=np.array([[True, True]]),
                teacher_mask=np.array([[False, True]]),
            ),
            {},
            [0.5],
        ),
        zero_if_same=False,
    ),
    "crf_nll": Case(
        losses.crf_nll,
        formulas.crf_nll,
        {"logits": draw(3, 4, 2), "transitions": draw(2, 2), "labels": draw.rng.integers(0, 2, (3, 4))}
        | {"mask": TOKENS},
        # 00, 01, 10, 11 weigh 1, 1, 1, 3
        (
            {
                "logits": np.zeros((1, 2, 2)),
                "transitions": np.array([[0, 0], [0, log(3)]]),
                "labels": labels([1, 1]),
            },
            {},
            [log(2)],
        ),
        zero_if_same=False,
    ),
    "crf_marginal_kl": Case(
        losses.crf_marginal_kl,
        formulas.crf_marginal_kl,
        {"student": chain(), "teacher": chain(), "mask": TOKENS},
        # both labels of the first token as the teacher's (1/2, 1/2); of the second, the student says (1/4, 3/4)
        (
            {
                "student": (np.array([[[0, 0], [0, log(3)], [9, 0]]]), np.zeros((2, 2))),
                "teacher": (np.zeros((1, 3, 2)), np.zeros((2, 2))),
                "mask": np.array([[True, True, False]]),
            },
            {},
            [log(4 / 3) / 2],
        ),
        {"temperature": 1.5},
    ),
}
