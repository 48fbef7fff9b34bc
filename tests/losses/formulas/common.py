"""What several formulas share."""

import numpy as np


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def divergence(p, q):
    return np.sum(p * np.log(p / q), -1)


def cosines(x, y):
    return x @ y.T / np.linalg.norm(x, axis=-1)[:, None] / np.linalg.norm(y, axis=-1)
