"""Losses between logits as the papers write them, in NumPy."""

import numpy as np

from tests.losses.formulas.common import divergence, softmax


def soft(labels, c):
    return np.eye(c)[labels] if labels.dtype.kind == "i" else labels


def cross_entropy(logits, labels, label_smoothing=0.0):
    c = logits.shape[-1]
    target = (1 - label_smoothing) * soft(labels, c) + label_smoothing / c
    return -np.sum(target * np.log(softmax(logits)), -1)


def weighted_cross_entropy(logits, labels, class_weights, normalize=False):
    mass = class_weights * soft(labels, logits.shape[-1])
    values = -np.sum(mass * np.log(softmax(logits)), -1)
    return values * values.size / mass.sum() if normalize else values


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
    def one(s, t, y):
        p, q = softmax(t / temperature), softmax(s / temperature)
        rest = np.arange(len(s)) != y
        target = divergence(np.array([p[y], 1 - p[y]]), np.array([q[y], 1 - q[y]]))
        others = divergence(p[rest] / p[rest].sum(), q[rest] / q[rest].sum())
        return temperature**2 * (alpha * target + beta * others)

    return each_row(one, student, teacher, labels)


def each_row(function, student, teacher, labels):
    classes = student.shape[-1]
    rows = zip(student.reshape(-1, classes), teacher.reshape(-1, classes), labels.ravel(), strict=True)
    return np.reshape([function(*r) for r in rows], labels.shape)


def nkd(student, teacher, labels, gamma, temperature):
    def one(s, t, y):
        rest = np.arange(len(s)) != y
        p, q = softmax(t[rest] / temperature), softmax(s[rest] / temperature)
        return -softmax(t)[y] * np.log(softmax(s)[y]) - gamma * temperature**2 * np.sum(p * np.log(q))

    return each_row(one, student, teacher, labels)


def wsld_weight(student, teacher, labels):
    return 1 - np.exp(-cross_entropy(student, labels) / (cross_entropy(teacher, labels) + 1e-7))


def wsld(student, teacher, labels, temperature, weight=None):
    weight = wsld_weight(student, teacher, labels) if weight is None else weight
    soft_labels = softmax(teacher / temperature) * np.log(softmax(student / temperature))
    return -(temperature**2) * weight * np.sum(soft_labels, -1)


def wsld_with_the_weight_of(inputs, temperature):
    weight = wsld_weight(**inputs)
    return lambda x: np.mean(wsld(**{k: np.asarray(v) for k, v in x.items()}, temperature=temperature, weight=weight))


def probability_mse(student, teacher, temperature):
    return temperature**2 * np.mean((softmax(student / temperature) - softmax(teacher / temperature)) ** 2, -1)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def binary_cross_entropy(logits, labels):
    q = sigmoid(logits)
    return -np.mean(labels * np.log(q) + (1 - labels) * np.log(1 - q), -1)


def ordinal_coral(logits, levels):
    above = levels[..., None] > np.arange(logits.shape[-1])
    return -np.sum(np.log(np.where(above, sigmoid(logits), 1 - sigmoid(logits))), -1)


def ordinal_corn(logits, levels):
    """Negative log of P(y = level) = P(y > level − 1) − P(y > level)."""
    above = np.cumprod(sigmoid(logits), -1)
    above = np.concatenate([np.ones_like(above[..., :1]), above, np.zeros_like(above[..., :1])], -1)
    return -np.log(np.take_along_axis(above[..., :-1] - above[..., 1:], levels[..., None], -1)[..., 0])


def binary_kl(student, teacher, temperature):
    p, q = (np.stack([sigmoid(x / temperature), sigmoid(-x / temperature)], -1) for x in (teacher, student))
    return temperature**2 * divergence(p, q).sum(-1)


def weighted_kl(student, teacher, class_weights, temperature):
    p = class_weights * softmax(teacher / temperature)
    return temperature**2 * divergence(p / p.sum(-1, keepdims=True), softmax(student / temperature))


def pearson(a, b, eps):
    a, b = a - a.mean(), b - b.mean()
    na, nb = np.linalg.norm(a), np.linalg.norm(b)
    return a @ b / (na * nb + 1e-8 if eps == "added" else max(na, 1e-8) * max(nb, 1e-8))


def dist(student, teacher, beta=1.0, gamma=1.0, temperature=1.0, eps="added"):
    p, q = softmax(teacher / temperature), softmax(student / temperature)
    rows = np.array([1 - pearson(a, b, eps) for a, b in zip(p, q, strict=True)])
    classes = np.array([1 - pearson(a, b, eps) for a, b in zip(p.T, q.T, strict=True)])
    return temperature**2 * (beta * rows + gamma * classes.mean())


def mlkd_batch(student, teacher, temperature):
    p, q = softmax(teacher / temperature), softmax(student / temperature)
    return ((q @ q.T - p @ p.T) ** 2).sum(1)


def mlkd_class(student, teacher, temperature):
    p, q = softmax(teacher / temperature), softmax(student / temperature)
    return ((q.T @ q - p.T @ p) ** 2).sum() / p.shape[1]


def mft(student, teacher, labels, threshold, temperature):
    def one(s, t, y):
        p, q = softmax(t / temperature), softmax(s / temperature)
        if p.argmax() != y:
            m = (p.max() - p[y] + threshold) / (1 + p.max() - p[y] + 1e-7)
        else:
            m = (min(p[y] + threshold, 1) - p[y]) / (1 - p[y] + 1e-7)
        return temperature**2 * divergence((1 - m) * p + m * np.eye(len(p))[y], q)

    return each_row(one, student, teacher, labels)


def standardize(logits):
    gap = logits - logits.mean(-1, keepdims=True)
    return gap / (logits.std(-1, ddof=1, keepdims=True) + 1e-7)


def skew_kl(student, teacher, alpha, temperature):
    p, q = softmax(teacher / temperature), softmax(student / temperature)
    return divergence(p, alpha * p + (1 - alpha) * q)
