"""Losses between feature maps as the papers write them, in NumPy."""

import itertools

import numpy as np

from tests.losses.formulas.common import divergence, softmax


def channels(x):
    """[b, h, w, c] -> [b, c, hw]."""
    return np.moveaxis(x, -1, 1).reshape(len(x), x.shape[-1], -1)


def fsp(student, teacher, pool="max"):
    reduce = {"max": np.max, "average": np.mean}[pool]

    def window(i, n, m):
        return slice(int(np.floor(i * m / n)), int(np.ceil((i + 1) * m / n)))

    def pooled(x, h, w):
        out = np.zeros((len(x), h, w, x.shape[-1]))
        for i, j in np.ndindex(h, w):
            out[:, i, j] = reduce(x[:, window(i, h, x.shape[1]), window(j, w, x.shape[2])], (1, 2))
        return out

    def flows(maps):
        for a, b in itertools.pairwise(maps):
            h, w = min(a.shape[1], b.shape[1]), min(a.shape[2], b.shape[2])
            yield np.einsum("bhwi,bhwj->bij", pooled(a, h, w), pooled(b, h, w)) / (h * w)

    return sum(((s - t) ** 2).sum((1, 2)) for s, t in zip(flows(student), flows(teacher), strict=True))


def nst(student, teacher, kernel="poly"):
    def one(s, t):
        s, t = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (s, t))
        width = np.mean([np.sum((a - b) ** 2) for a in s for b in t])
        k = {
            "poly": lambda a, b: (a @ b) ** 2,
            "linear": lambda a, b: a @ b,
            "gaussian": lambda a, b: np.exp(-np.sum((a - b) ** 2) / (2 * width)),
        }[kernel]

        def mean(x, y):
            return np.mean([[k(a, b) for b in y] for a in x])

        return mean(s, s) + mean(t, t) - 2 * mean(s, t)

    return np.array([one(*x) for x in zip(channels(student), channels(teacher), strict=True)])


def activation_boundary(student, teacher, margin=1.0):
    fires = teacher > 0
    terms = fires * np.maximum(margin - student, 0) ** 2 + ~fires * np.maximum(margin + student, 0) ** 2
    return terms.reshape(len(student), -1).sum(1)


def cwd(student, teacher, temperature=1.0):
    p, q = (softmax(channels(x) / temperature) for x in (teacher, student))
    return temperature**2 * divergence(p, q).mean(1)


def ickd(student, teacher, form="code"):
    def correlation(x):
        g = channels(x) @ np.swapaxes(channels(x), 1, 2)
        return g / np.linalg.norm(g, axis=2, keepdims=True) if form == "code" else g

    square = ((correlation(student) - correlation(teacher)) ** 2).sum((1, 2))
    return square / student.shape[-1] ** (1 if form == "code" else 2)


def affinities(x):
    x = x.reshape(len(x), -1, x.shape[-1])
    x = x / np.linalg.norm(x, axis=2, keepdims=True)
    return np.einsum("bic,bjc->bij", x, x)


def affinity(student, teacher):
    return np.linalg.norm(affinities(student) - affinities(teacher), axis=2).mean(1)


def pairwise_affinity(student, teacher):
    return ((affinities(student) - affinities(teacher)) ** 2).mean((1, 2))
