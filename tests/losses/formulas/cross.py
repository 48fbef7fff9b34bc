"""Losses of cross-modal methods as the papers write them, in NumPy."""

import numpy as np

from tests.losses.formulas.common import cosines, divergence, softmax
from tests.losses.formulas.logits import each_row


def non_target_kl(student, teacher, labels, temperature=1.0, target="removed"):
    def one(s, t, y):
        if target == "removed":
            s, t = np.delete(s, y), np.delete(t, y)
        else:
            s, t = (np.where(np.arange(len(x)) == y, 0, x) for x in (s, t))
        return temperature**2 * divergence(softmax(t / temperature), softmax(s / temperature))

    return each_row(one, student, teacher, labels)


def mmanet(student, teacher, weighed="rows"):
    def gram(x):
        g = x.reshape(len(x), -1) @ x.reshape(len(x), -1).T
        return g / np.linalg.norm(g, axis=1, keepdims=True)

    p = softmax(teacher[1])
    entropy = -np.sum(p * np.log(p), 1)
    gap = (gram(student) - gram(teacher[0])) ** 2
    w = entropy / entropy.sum()
    return len(w) * (gap * (w[:, None] if weighed == "rows" else w[None, :])).sum(1)


def ccl(student, teacher, labels, temperature, symmetric=False):
    def towards(a, b):
        p, values = softmax(cosines(a, b) / temperature), []
        for i, y in enumerate(labels):
            near = labels == y
            far = np.mean(-np.log(1 - p[i][~near])) if (~near).any() else 0.0
            values.append(np.mean(-np.log(p[i][near])) + far)
        return np.array(values)

    return towards(student, teacher) + (towards(teacher, student) if symmetric else 0)
