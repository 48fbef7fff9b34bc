"""Rows of the losses that look at several stages, or that the teacher's head sees."""

import numpy as np

from mmkd_jax import losses
from tests.losses.cases.case import Case, Sampler, both
from tests.losses.formulas import stages as formulas

draw = Sampler(7)


def stages(*shapes, rows=5):
    """A student's and a teacher's array for each shape."""
    return {side: tuple(draw(rows, *shape) for shape in shapes) for side in ("student", "teacher")}


def lists(student, teacher, **more):
    return {"student": _arrays(student), "teacher": _arrays(teacher)} | {k: np.array(x) for k, x in more.items()}


def _arrays(values):
    return tuple(np.array(x, float) for x in values)


CASES = {
    "hcl": Case(
        losses.hcl,
        formulas.hcl,
        # windows that overlap, fall together with the map, are one pixel, lie along one axis only
        stages((7, 6, 3), (4, 4, 2), (1, 1, 6), (6, 1, 2)),
        # the map (10 / 4) and its mean (1² = 1, at half the weight), over the weights: (2.5 + 0.5) / 1.5
        (lists([[[[[1], [3]], [[0], [0]]]]], [np.zeros((1, 2, 2, 1))]), {}, [2.0]),
    ),
    "semckd": Case(
        losses.semckd,
        formulas.semckd,
        stages((4, 3), (4, 3), (2,), (4,), (3,), (2,)) | {"weights": draw.rng.dirichlet([1, 1, 1], (5, 2))},
        # one student's layer, two of the teacher's: 1/4 · 1² + 3/4 · 2²
        (lists([[[1]], [[2]]], [[[0]], [[0]]], weights=[[[0.25, 0.75]]]), {}, [3.25]),
    ),
    "srrl": Case(
        losses.srrl,
        formulas.srrl,
        stages((6,), (3,)),
        # 2 · (1² + 0²) / 2 + 0.5 · 2²
        (lists([[[1, 0]], [[2]]], [[[0, 0]], [[0]]]), {"alpha": 2.0, "beta": 0.5}, [3.0]),
        {"alpha": 0.7, "beta": 5.0},
    ),
    "simkd": Case(
        losses.simkd,
        formulas.simkd,
        draw.pair(5, 2, 3, 4, teacher=(5, 4, 7, 4)),
        # the teacher's map (1, 3) has the mean 2
        (both([[[[5]]]], [[[[1], [3]]]]), {}, [9.0]),
        zero_if_same=False,  # the teacher's map is larger
    ),
    "simkd of vectors": Case(losses.simkd, formulas.simkd, draw.pair(5, 4), (both([[1, 3]], [[1, 1]]), {}, [2.0])),
}
