"""Losses of regression as the papers write them, in NumPy."""

import numpy as np


def last(reduce, x):
    return reduce(x, -1) if x.ndim > 1 else x


def mse(predictions, targets):
    return last(np.mean, (predictions - targets) ** 2)


def l1(predictions, targets):
    return last(np.mean, np.abs(predictions - targets))


def huber(predictions, targets, delta):
    e = np.abs(predictions - targets)
    return last(np.mean, np.where(e <= delta, e**2 / 2, delta * (e - delta / 2)))


def bounded_regression(student, teacher, targets, margin=0.0):
    ours, theirs = (last(np.sum, (x - targets) ** 2) for x in (student, teacher))
    return np.where(ours + margin > theirs, ours, 0)


def gaussian_kl(student, teacher):
    (mean, log_variance), (center, log_spread) = student, teacher
    variance, spread = np.exp(log_variance), np.exp(log_spread)
    return last(np.mean, np.log(variance / spread) / 2 + (spread + (mean - center) ** 2) / (2 * variance) - 1 / 2)
