"""Rows of losses between image–text models, and over queues, of `losses/contrastive/`."""

from math import exp, log, log1p

import numpy as np

from mmkd_jax import losses
from tests.losses.cases.case import Case, Sampler, both
from tests.losses.formulas import clip as formulas

draw = Sampler(31)
EYE, TIE = np.eye(2), np.array([[1.0, 0.0], [1.0, 0.0]])
NEAR = exp(1) / (1 + exp(1))  # of two rows at right angles, what softmax gives a row itself


def towers(*widths, rows=5):
    """An image and a text embedding of each width."""
    return tuple(draw(rows, width) for width in widths for _ in range(2))


def pair(student, teacher):
    return {"student": towers(student), "teacher": towers(teacher)}


def entropy(*p):
    return -sum(x * log(x) for x in p)


def kl(p, q):
    return p * log(p / q) + (1 - p) * log((1 - p) / (1 - q))


TIED = {"student": (EYE, TIE), "teacher": (EYE, 2 * EYE)}
ONE = {"temperature": 1.0}
BOTH = ONE | {"teacher_temperature": 1.0}
SOFT = {"temperature": 0.5, "teacher_temperature": 0.7}
# the student's image sees a tie; from its text, row 0 is 1 ahead and row 1 is 1 behind
TIED_KL = [kl(NEAR, 0.5), kl(NEAR, 0.5) + kl(NEAR, 1 - NEAR)]

CASES = {
    "clip_crd": Case(
        losses.clip_crd,
        formulas.clip_crd,
        pair(3, 4),
        (TIED, BOTH, [v / 2 for v in TIED_KL]),
        SOFT,
        zero_if_same=False,  # the two temperatures differ
        still_at_zero=True,
    ),
    "clip_crd, one temperature": Case(
        losses.clip_crd,
        formulas.clip_crd,
        pair(3, 3),
        (TIED, BOTH, [v / 2 for v in TIED_KL]),
        {"temperature": 0.5, "teacher_temperature": 0.5},
        still_at_zero=True,
    ),
    "clip_icl": Case(
        losses.clip_icl,
        formulas.clip_icl,
        pair(3, 3),
        # the image finds its text 1 ahead; the text is 1 ahead in row 0, 1 behind in row 1
        (TIED, ONE, [log1p(exp(-1)), (log1p(exp(-1)) + log1p(exp(1))) / 2]),
        {"temperature": 0.5},
        zero_if_same=False,
        still_at_zero=True,
    ),
    "clip_fd": Case(
        losses.clip_fd,
        formulas.clip_fd,
        pair(3, 3),
        (TIED, {}, [0.0, 1.0]),
        still_at_zero=True,
    ),
    "clip_gd": Case(
        losses.clip_gd,
        formulas.clip_gd,
        pair(3, 3),
        # each of the four gradients of row 0 is (1 − p) / (2 τ) · (−1, 1), p what softmax gives the row itself
        (
            {"student": (EYE, EYE), "teacher": (EYE, EYE)},
            BOTH | {"temperature": 2.0},
            2 * [4 * ((1 - NEAR) / 2 - 1 / (1 + exp(0.5)) / 4) ** 2],
        ),
        SOFT,
        zero_if_same=False,
        still_at_zero=True,
    ),
    "tinyclip": Case(
        losses.tinyclip,
        formulas.tinyclip,
        pair(3, 4),
        (TIED, BOTH, [entropy(NEAR, 1 - NEAR) + v / 2 for v in TIED_KL]),
        SOFT,
        zero_if_same=False,
        still_at_zero=True,
    ),
    "mobileclip": Case(
        losses.mobileclip,
        formulas.mobileclip,
        {"student": towers(3), "teacher": towers(4, 2)},
        (
            TIED | {"teacher": (EYE, EYE, EYE, TIE)},
            ONE | {"teacher_temperatures": (1.0, 1.0)},
            [v / 4 for v in TIED_KL],  # the second teacher says what the student says
        ),
        {"temperature": 0.5, "teacher_temperatures": (0.7, 0.4)},
        zero_if_same=False,
        still_at_zero=True,
    ),
    "dime_vl": Case(
        losses.dime_vl, formulas.dime_vl, pair(3, 3), (TIED, ONE, TIED_KL), {"temperature": 0.5}, still_at_zero=True
    ),
    "dime_pseudo_vl": Case(
        losses.dime_pseudo_vl,
        formulas.dime_pseudo_vl,
        draw.pair(5, 3),
        (both(TIE, EYE), ONE, [0.0, 2 * kl(NEAR, 1 - NEAR)]),
        {"temperature": 0.5},
        still_at_zero=True,
    ),
    "dime_unimodal": Case(
        losses.dime_unimodal,
        formulas.dime_unimodal,
        draw.pair(5, 3, teacher=(5, 3)),
        (both(TIE, EYE), ONE, 2 * [2 * kl(NEAR, 0.5)]),
        {"temperature": 0.5},
        still_at_zero=True,
    ),
    "compress": Case(
        losses.compress,
        formulas.compress,
        draw.pair(5, 3, teacher=(5, 4)) | {"keys": draw(6, 3), "teacher_keys": draw(6, 4)},
        (both(EYE, EYE, keys=TIE, teacher_keys=EYE), ONE, 2 * [kl(NEAR, 0.5)]),
        {"temperature": 0.5},
        zero_if_same=False,  # it has other keys
        still_at_zero=True,
    ),
    "seed": Case(
        losses.seed,
        formulas.seed,
        draw.pair(5, 3) | {"keys": draw(6, 3)},
        # row 0: a tie for both; row 1: the teacher is 1 ahead with itself, the student 1 behind
        (both(TIE, EYE, keys=TIE[:1]), BOTH, [log(2), kl(NEAR, 1 - NEAR) + entropy(NEAR, 1 - NEAR)]),
        SOFT,
        zero_if_same=False,
        still_at_zero=True,
    ),
}
