"""Rows of the losses of few classes, and of very many."""

from math import log

import numpy as np

from mmkd_jax import losses
from tests.losses.cases.case import Case, Sampler, both
from tests.losses.formulas import topk as formulas

draw = Sampler(7)

CASES = {
    "topk_kl": Case(
        losses.topk_kl,
        formulas.topk_kl,
        draw.pair(2, 3, 6),
        # classes 0 and 2: p = (3/4, 1/4), q = (1/2, 1/2), T² = 4
        (both([[0, 9, 0]], [[2 * log(3), -5, 0]]), {"k": 2, "temperature": 2.0}, [3 * log(3 / 2) + log(1 / 2)]),
        {"k": 3, "temperature": 2.0},
        infinite=("student",),
    ),
    "topk_kl with the rest": Case(
        losses.topk_kl,
        formulas.topk_kl,
        draw.pair(2, 3, 6),
        # class 0 and the rest: p = (1/2, 1/2), q = (1/4, 3/4)
        (both([[0, 0, log(2)]], [[log(2), 0, 0]]), {"k": 1, "tail": True}, [log(2) / 2 + log(2 / 3) / 2]),
        {"k": 3, "temperature": 2.0, "tail": True},
        infinite=("student",),
    ),
    "chunked_kl": Case(
        losses.chunked_kl,
        formulas.chunked_kl,
        draw.pair(5, 3, teacher=(5, 2))
        | {"head": draw(3, 7), "teacher_head": draw(2, 7), "bias": draw(7), "teacher_bias": draw(7)},
        # p = (3/4, 1/4), q = (1/2, 1/2), T² = 4; then p = q = (1/2, 1/2)
        (
            both([[1], [1]], [[1], [0]], head=np.array([[0.0, 0.0]]), teacher_head=np.array([[2 * log(3), 0.0]])),
            {"temperature": 2.0},
            (3 * log(3 / 2) + log(1 / 2)) / 2,
        ),
        {"temperature": 1.5, "chunk": 7},  # one row at a time
        zero_if_same=False,
        stopped=formulas.chunked_kl_of_one_teacher,
    ),
}
