"""Losses over stages as the papers write them, in NumPy."""

from math import ceil

import numpy as np


def pooled(x, size):
    """Each window on its own, as its definition says."""
    for axis, (n, m) in enumerate(zip(x.shape[1:3], size, strict=True), 1):
        cuts = [(i * n // m, ceil((i + 1) * n / m)) for i in range(m)]
        x = np.stack([x.take(range(a, b), axis).mean(axis) for a, b in cuts], axis)
    return x


def mse(student, teacher):
    return ((student - teacher) ** 2).reshape(len(student), -1).mean(1)


def hcl(student, teacher):
    value = 0
    for s, t in zip(student, teacher, strict=True):
        h, w = s.shape[1:3]
        stage, weight, whole = mse(s, t), 1.0, 1.0
        for level in (4, 2, 1):
            if level < max(h, w):
                size = (min(level, h), min(level, w))
                weight /= 2
                whole += weight
                stage = stage + weight * mse(pooled(s, size), pooled(t, size))
        value = value + stage / whole
    return value


def semckd(student, teacher, weights):
    value, (_, layers, others) = 0, weights.shape
    for i in range(layers):
        for j in range(others):
            k = i * others + j
            value = value + weights[:, i, j] * mse(student[k], teacher[k])
    return value / layers


def srrl(student, teacher, alpha=1.0, beta=1.0):
    return alpha * mse(student[0], teacher[0]) + beta * mse(student[1], teacher[1])


def simkd(student, teacher):
    return mse(student, pooled(teacher, student.shape[1:3]) if student.ndim == 4 else teacher)
