"""Losses between logits as the papers write them, in NumPy."""

import numpy as np

from tests.losses.formulas.common import divergence, softmax


def cross_entropy(logits, labels, label_smoothing=0.0):
    c = logits.shape[-1]
    target = (1 - label_smoothing) * np.eye(c)[labels] + label_smoothing / c
    return -np.sum(target * np.log(softmax(logits)), -1)


def kl(student, teacher, temperature=1.0):
    t = np.asarray(temperature)[..., None]
    return np.asarray(temperature) ** 2 * divergence(softmax(teacher / t), softmax(student / t))


def reverse_kl(student, teacher, temperature=1.0):
    return temperature**2 * divergence(softmax(student / temperature), softmax(teacher / temperature))


def jsd(student, teacher, beta=0.5, temperature=1.0):
    p, q = softmax(teacher / temperature), softmax(student / temperature)
    m = beta * p + (1 - beta) * q
    return beta * divergence(p, m) + (1 - beta) * divergence(q, m)


def logit_mse(student, teacher):
    return np.mean((student - teacher) ** 2, -1)


def dkd(student, teacher, labels, alpha, beta, temperature):
    classes = student.shape[-1]

    def one(s, t, y):
        p, q = softmax(t / temperature), softmax(s / temperature)
        rest = np.arange(len(s)) != y
        target = divergence(np.array([p[y], 1 - p[y]]), np.array([q[y], 1 - q[y]]))
        others = divergence(p[rest] / p[rest].sum(), q[rest] / q[rest].sum())
        return temperature**2 * (alpha * target + beta * others)

    rows = zip(student.reshape(-1, classes), teacher.reshape(-1, classes), labels.ravel(), strict=True)
    return np.reshape([one(*r) for r in rows], labels.shape)
