"""Losses of few classes, and of very many, in NumPy."""

import numpy as np

from tests.losses.formulas.common import divergence, softmax
from tests.losses.formulas.logits import kl


def topk_kl(student, teacher, k, temperature=1.0, tail=False):
    def one(s, t):
        best = np.argsort(-t)[:k]
        if not tail:
            return divergence(softmax(t[best] / temperature), softmax(s[best] / temperature))
        p, q = softmax(t / temperature), softmax(s / temperature)
        p, q = (np.append(x[best], np.delete(x, best).sum()) for x in (p, q))
        return divergence(p, q)

    rows = zip(student.reshape(-1, student.shape[-1]), teacher.reshape(-1, teacher.shape[-1]), strict=True)
    return temperature**2 * np.reshape([one(*r) for r in rows], student.shape[:-1])


def chunked_kl(student, teacher, head, teacher_head, bias=0.0, teacher_bias=0.0, temperature=1.0, chunk=0):
    return np.mean(kl(student @ head + bias, teacher @ teacher_head + teacher_bias, temperature))


def chunked_kl_of_one_teacher(inputs, **hyper):
    """As a function of the student; without row 1, as the test masks it."""
    fixed = {k: inputs[k] for k in ("teacher", "teacher_head", "teacher_bias")}

    def value(x):
        x = {k: np.asarray(v) for k, v in x.items()} | fixed
        return chunked_kl(
            **{k: np.delete(v, 1, 0) if k in ("student", "teacher") else v for k, v in x.items()}, **hyper
        )

    return value
