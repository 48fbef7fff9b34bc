"""Losses between layers of transformers as the papers write them, in NumPy: example by example, without padding."""

import numpy as np

from tests.losses.formulas.common import softmax


def each_text(function, arrays, mask):
    """The function of each example's tokens; arrays are [b, l, d]."""
    rows = range(len(arrays[0]))
    keep = [slice(None) if mask is None else mask[i] for i in rows]
    return np.array([function(*(x[i][keep[i]] for x in arrays)) for i in rows])


def pairs(student, mask):
    b, _, q, k = student.shape
    if mask is None:
        return np.ones((b, q, k), bool)
    return mask if mask.ndim == 3 else np.array([np.outer(m, m) for m in mask])


def attention_mse(student, teacher, mask=None):
    there = pairs(student, mask)
    return np.array([np.mean((s[:, m] - t[:, m]) ** 2) for s, t, m in zip(student, teacher, there, strict=True)])


def kl(p, q):
    return sum(a * np.log(a / b) for a, b in zip(p, q, strict=True) if a > 0)


def attention_kl(student, teacher, mask=None, given="probabilities"):
    def distribution(x):
        return softmax(x) if given == "scores" else x / x.sum()

    def one(s, t, there):
        queries = [q for q in range(len(there)) if there[q].any()]
        heads = range(len(s))
        values = [kl(*(distribution(x[h, q, there[q]]) for x in (t, s))) for h in heads for q in queries]
        return np.mean(values)

    return np.array([one(*row) for row in zip(student, teacher, pairs(student, mask), strict=True)])


def minilm_relations(student, teacher, heads, mask=None):
    def relation(x):
        width = x.shape[-1] // heads
        parts = [x[:, a * width : (a + 1) * width] for a in range(heads)]
        return [softmax(part @ part.T / np.sqrt(width)) for part in parts]

    def one(s, t):
        heads_of_both = zip(relation(t), relation(s), strict=True)
        return np.mean([kl(p, q) for a, b in heads_of_both for p, q in zip(a, b, strict=True)])

    return sum(each_text(one, (s, t), mask) for s, t in zip(student, teacher, strict=True))


def hidden_mse(student, teacher):
    return np.mean((student - teacher) ** 2, -1)


def patient(student, teacher):
    def first(x):
        return x[:, 0] / np.linalg.norm(x[:, 0], axis=-1, keepdims=True)

    return sum(np.sum((first(s) - first(t)) ** 2, -1) for s, t in zip(student, teacher, strict=True))


def token_fsp(student, teacher, mask=None):
    def one(s1, s2, t1, t2):
        return np.mean((s1.T @ s2 - t1.T @ t2) ** 2) / len(s1) ** 2

    return each_text(one, (*student, *teacher), mask)


def token_nst(student, teacher, mask=None):
    def one(s1, s2, t1, t2):
        return np.mean((s1 @ s2.T / s1.shape[-1] - t1 @ t2.T / t1.shape[-1]) ** 2)

    return each_text(one, (*student, *teacher), mask)
