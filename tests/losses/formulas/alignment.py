"""Losses that align modalities as the papers write them, in NumPy and SciPy."""

import numpy as np
from scipy.linalg import fractional_matrix_power, subspace_angles
from scipy.special import logsumexp

from tests.losses.formulas.common import divergence, softmax


def coral(student, teacher):
    gap = np.cov(student, rowvar=False) - np.cov(teacher, rowvar=False)
    return np.linalg.norm(gap) ** 2 / (4 * student.shape[1] ** 2)


def cmd(student, teacher, moments=5, span=1.0):
    def moment(x, k):
        return np.mean((x - x.mean(0)) ** k, 0) / span**k if k > 1 else x.mean(0) / span

    return sum(np.linalg.norm(moment(student, k) - moment(teacher, k)) for k in range(1, moments + 1))


def squares(x, y):
    return np.array([[np.sum((a - b) ** 2) for b in y] for a in x])


def unit(student, teacher):
    both = np.concatenate([student, teacher])
    return squares(both, both).mean()


def mmd(student, teacher, kernel="rbf", bandwidth=1.0, factors=(0.25, 0.5, 1.0, 2.0, 4.0), relative=True):
    def k(x, y):
        if kernel == "poly":
            return (x @ y.T / x.shape[1] + 1) ** 3
        width = bandwidth * (unit(student, teacher) if relative else 1)
        return np.mean([np.exp(-squares(x, y) / (2 * f * width)) for f in factors], 0)

    inside = k(student, student) + k(teacher, teacher)
    return (inside - k(student, teacher) - k(teacher, student)).mean(1)


def cca(student, teacher, components=None, r1=1e-4, r2=1e-4):
    d = student.shape[1]
    c = np.cov(student, teacher, rowvar=False)
    c = c + np.diag([r1] * d + [r2] * teacher.shape[1])
    left, right = (fractional_matrix_power(x, -0.5) for x in (c[:d, :d], c[d:, d:]))
    return -np.linalg.svd(left @ c[:d, d:] @ right)[1][:components].sum()


def grassmann(student, teacher, dimensions=4, metric="projection", center=True):
    u, v = (np.linalg.svd(x - center * x.mean(0))[2][:dimensions].T for x in (student, teacher))
    angles = np.asarray(subspace_angles(u, v))
    return np.sum(np.sin(angles) ** 2 if metric == "projection" else angles**2)


def sinkhorn(student, teacher, epsilon=0.1, iterations=100, relative=True, debiased=True):
    epsilon = epsilon * (unit(student, teacher) if relative else 1)

    def cost(x, y):
        c, f, g, a = squares(x, y), np.zeros(len(x)), np.zeros(len(y)), -np.log(len(x))
        for _ in range(2000):
            f = -epsilon * logsumexp((g[None] - c) / epsilon + a, 1)
            g = -epsilon * logsumexp((f[:, None] - c) / epsilon + a, 0)
        plan = np.exp((f[:, None] + g[None] - c) / epsilon + 2 * a)
        return np.sum(plan * (c + epsilon * np.log(plan * len(x) ** 2)))

    own = cost(student, student) + cost(teacher, teacher) if debiased else 0
    return cost(student, teacher) - own / 2


def agreement(logits, present, sharpness, temperature):
    """The predictions that are there, and their weights; one row."""
    p = [softmax(z / temperature) for z, here in zip(logits, present, strict=True) if here]

    def js(a, b):
        return (divergence(a, (a + b) / 2) + divergence(b, (a + b) / 2)) / 2

    w = [np.exp(-sharpness * sum(js(a, b) for b in p) / max(len(p) - 1, 1)) for a in p]
    return np.array(p), np.array(w) / np.sum(w)


def each_row(one):
    """A function of one row's logits, masks, sharpness and temperature, for all rows."""

    def rows(logits, present=(), sharpness=1.0, temperature=1.0):
        n = len(logits[0])
        masks = present or [np.ones(n, bool)] * len(logits)
        given = [([z[i] for z in logits], [m[i] for m in masks]) for i in range(n)]
        return np.array([one(*x, sharpness, temperature) if sum(x[1]) > 1 else 0.0 for x in given])

    return rows


@each_row
def agreement_jsd(logits, present, sharpness, temperature):
    p, w = agreement(logits, present, sharpness, temperature)
    return np.sum(w * divergence(p, w @ p))


@each_row
def agreement_kl(logits, present, sharpness, temperature):
    p, w = agreement(logits, present, sharpness, temperature)
    return temperature**2 * np.mean(divergence(w @ p, p))


def held(loss):
    """The mean as a function of the logits, with weights (and the consensus of `agreement_kl`) held at the inputs."""

    def stopped(inputs, sharpness=1.0, temperature=1.0):
        present = inputs["present"]
        rows = range(len(present[0]))
        at = [[z[i] for z in inputs["logits"]] for i in rows]
        fixed = [agreement(z, [m[i] for m in present], sharpness, temperature) for i, z in enumerate(at)]

        def value(moving):
            total = 0.0
            for i in rows:
                here = [m[i] for m in present]
                p = [softmax(np.asarray(z[i]) / temperature) for z, h in zip(moving["logits"], here, strict=True) if h]
                (before, w), p = fixed[i], np.array(p)
                if len(p) > 1 and loss == "jsd":
                    total += np.sum(w * divergence(p, w @ p))
                elif len(p) > 1:
                    total += temperature**2 * np.mean(divergence(w @ before, p))
            return total / len(rows)

        return value

    return stopped
