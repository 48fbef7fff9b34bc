"""Losses of image–text models and of queues as the papers write them, in NumPy."""

import numpy as np

from tests.losses.formulas.common import cosines, divergence, softmax


def to_unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def affinities(x, y, temperature):
    return softmax(cosines(x, y) / temperature)


def both_ways(student, teacher, temperature, teacher_temperature):
    """(teacher's, student's) distributions from image to text, and from text to image."""
    for a, b in ((0, 1), (1, 0)):
        yield (
            affinities(teacher[a], teacher[b], teacher_temperature),
            affinities(student[a], student[b], temperature),
        )


def clip_crd(student, teacher, temperature, teacher_temperature):
    return sum(divergence(p, q) for p, q in both_ways(student, teacher, temperature, teacher_temperature)) / 2


def clip_icl(student, teacher, temperature):
    one, other = (affinities(student[a], teacher[b], temperature) for a, b in ((0, 1), (1, 0)))
    return -(np.log(np.diag(one)) + np.log(np.diag(other))) / 2


def clip_fd(student, teacher):
    return sum(((to_unit(s) - to_unit(t)) ** 2).mean(1) for s, t in zip(student, teacher, strict=True))


def clip_gd(student, teacher, temperature, teacher_temperature):
    def slopes(x, y, t):
        """By hand: of L = −(1/n) Σ_i log softmax_j(x_i · y_j / t)_i."""
        x, y, n = to_unit(x), to_unit(y), len(x)
        p = softmax(x @ y.T / t)
        by_x = [sum((p[i, j] - (i == j)) * y[j] for j in range(n)) / (n * t) for i in range(n)]
        by_y = [sum((p[i, j] - (i == j)) * x[i] for i in range(n)) / (n * t) for j in range(n)]
        return np.array(by_x), np.array(by_y)

    value = 0
    for a, b in ((0, 1), (1, 0)):
        ours, theirs = slopes(student[a], student[b], temperature), slopes(teacher[a], teacher[b], teacher_temperature)
        value = value + sum(((x - y) ** 2).mean(1) for x, y in zip(ours, theirs, strict=True))
    return value


def tinyclip(student, teacher, temperature, teacher_temperature):
    pairs = both_ways(student, teacher, temperature, teacher_temperature)
    return sum(-(p * np.log(q)).sum(1) for p, q in pairs) / 2


def mobileclip(student, teacher, temperature, teacher_temperatures):
    pairs = [(teacher[i], teacher[i + 1]) for i in range(0, len(teacher), 2)]
    each = [clip_crd(student, x, temperature, t) for x, t in zip(pairs, teacher_temperatures, strict=True)]
    return np.mean(each, 0)


def dime_vl(student, teacher, temperature):
    return sum(divergence(p, q) for p, q in both_ways(student, teacher, temperature, temperature))


def dime_pseudo_vl(student, teacher, temperature):
    return 2 * divergence(affinities(teacher, teacher, temperature), affinities(student, teacher, temperature))


def dime_unimodal(student, teacher, temperature):
    return 2 * divergence(affinities(teacher, teacher, temperature), affinities(student, student, temperature))


def compress(student, teacher, keys, teacher_keys, temperature):
    p = softmax(to_unit(teacher) @ teacher_keys.T / temperature)
    return divergence(p, softmax(to_unit(student) @ keys.T / temperature))


def seed(student, teacher, keys, temperature, teacher_temperature):
    def scores(x):
        x, t = to_unit(x), to_unit(teacher)
        return np.stack([np.concatenate([[x[i] @ t[i]], keys @ x[i]]) for i in range(len(x))])

    p = softmax(scores(teacher) / teacher_temperature)
    return -(p * np.log(softmax(scores(student) / temperature))).sum(1)
