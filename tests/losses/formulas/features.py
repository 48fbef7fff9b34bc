"""Losses between features as the papers write them, in NumPy."""

import numpy as np


def mean_square(student, teacher):
    return np.mean((student - teacher).reshape(len(student), -1) ** 2, -1)


def cosine(student, teacher):
    norms = np.linalg.norm(student, axis=-1) * np.linalg.norm(teacher, axis=-1)
    return 1 - np.sum(student * teacher, -1) / norms


def attention_transfer(student, teacher, power=2.0, form="code"):
    def attention(x):
        a = (np.abs(x) ** power).mean(-1).reshape(len(x), -1)
        return a / np.linalg.norm(a, axis=-1, keepdims=True)

    gap = attention(student) - attention(teacher)
    return np.mean(gap**2, -1) if form == "code" else np.linalg.norm(gap, axis=-1)
