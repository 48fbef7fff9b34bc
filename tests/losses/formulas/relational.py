"""Losses between relations as the papers write them, in NumPy."""

from math import factorial

import numpy as np


def to_unit(x, normalize):
    return x / np.linalg.norm(x, axis=1, keepdims=True) if normalize else x


def huber(x):
    return np.where(np.abs(x) <= 1, x**2 / 2, np.abs(x) - 0.5)


def rkd_distance(student, teacher, normalize=False):
    def relative(x):
        d = np.linalg.norm(x[:, None] - x[None], axis=-1)
        return d / d[d > 0].mean()

    return huber(relative(to_unit(student, normalize)) - relative(to_unit(teacher, normalize))).mean(1)


def rkd_angle(student, teacher, normalize=False):
    def angle(x, i, j, k):
        a, b = x[j] - x[i], x[k] - x[i]
        return a @ b / (np.linalg.norm(a) * np.linalg.norm(b)) if i not in (j, k) else 0.0

    n, student, teacher = len(student), to_unit(student, normalize), to_unit(teacher, normalize)
    return np.array(
        [
            sum(huber(angle(student, i, j, k) - angle(teacher, i, j, k)) for j in range(n) for k in range(n)) / n**2
            for i in range(n)
        ]
    )


def sp(student, teacher, norm="l2"):
    def gram(x):
        g = x.reshape(len(x), -1) @ x.reshape(len(x), -1).T
        return g / np.linalg.norm(g, ord={"l2": 2, "l1": 1}[norm], axis=1, keepdims=True)

    return ((gram(student) - gram(teacher)) ** 2).mean(1)


def pkt(student, teacher, eps=1e-7):
    def distribution(x):
        x = x / (np.linalg.norm(x, axis=1, keepdims=True) + eps)
        similar = (x @ x.T + 1) / 2
        return similar / similar.sum(1, keepdims=True)

    p, q = distribution(teacher), distribution(student)
    return (p * np.log((p + eps) / (q + eps))).mean(1)


def cc(student, teacher, gamma=0.4, order=2):
    def correlation(x):
        x = x / np.linalg.norm(x, axis=1, keepdims=True)
        return np.exp(-2 * gamma) * sum((2 * gamma) ** p / factorial(p) * (x @ x.T) ** p for p in range(order + 1))

    return ((correlation(student) - correlation(teacher)) ** 2).mean(1)


def cc_bilinear(student, teacher):
    return ((student @ student.T - teacher @ teacher.T) ** 2).mean(1)


def dark_rank(student, teacher, alpha=3.0, beta=3.0, length=4):
    def one(i):
        score = -alpha * np.linalg.norm(student - student[i], axis=1) ** beta
        others = np.delete(np.arange(len(student)), i)
        nearest = others[np.argsort(np.linalg.norm(teacher - teacher[i], axis=1)[others])][:length]
        return -sum(score[k] - np.log(np.exp(score[nearest[p:]]).sum()) for p, k in enumerate(nearest))

    return np.array([one(i) for i in range(len(student))])


def load_balancing(router, top_k=2):
    experts = router.shape[1]
    picks = [e for p in router for e in sorted(range(experts), key=lambda e: -p[e])[:top_k]]
    shares = np.array([picks.count(e) / len(picks) for e in range(experts)])
    return experts * router @ shares
