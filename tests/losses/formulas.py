"""The losses as their papers write them, in plain NumPy: one value per row; nothing masked, nothing extreme."""

import numpy as np


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def divergence(p, q):
    return np.sum(p * np.log(p / q), -1)


def column(temperature):
    return np.reshape(temperature, (-1, 1))


def cross_entropy(logits, labels, label_smoothing=0.0):
    c = logits.shape[-1]
    target = (1 - label_smoothing) * np.eye(c)[labels] + label_smoothing / c
    return -np.sum(target * np.log(softmax(logits)), -1)


def kl(student, teacher, temperature=1.0):
    t = column(temperature)
    return np.ravel(t) ** 2 * divergence(softmax(teacher / t), softmax(student / t))


def reverse_kl(student, teacher, temperature=1.0):
    return temperature**2 * divergence(softmax(student / temperature), softmax(teacher / temperature))


def jsd(student, teacher, beta=0.5, temperature=1.0):
    p, q = softmax(teacher / temperature), softmax(student / temperature)
    m = beta * p + (1 - beta) * q
    return beta * divergence(p, m) + (1 - beta) * divergence(q, m)


def mean_square(student, teacher):
    return np.mean((student - teacher).reshape(len(student), -1) ** 2, -1)


def dkd(student, teacher, labels, alpha, beta, temperature):
    values = []
    for s, t, y in zip(student, teacher, labels, strict=True):
        p, q = softmax(t / temperature), softmax(s / temperature)
        rest = np.arange(len(s)) != y
        target = divergence(np.array([p[y], 1 - p[y]]), np.array([q[y], 1 - q[y]]))
        others = divergence(p[rest] / p[rest].sum(), q[rest] / q[rest].sum())
        values.append(temperature**2 * (alpha * target + beta * others))
    return np.array(values)


def cosines(x, y):
    return x @ y.T / np.linalg.norm(x, axis=-1)[:, None] / np.linalg.norm(y, axis=-1)


def cosine(student, teacher):
    return 1 - np.diag(cosines(student, teacher))


def attention_transfer(student, teacher, power=2.0, form="code"):
    def attention(x):
        a = (np.abs(x) ** power).mean(-1).reshape(len(x), -1)
        return a / np.linalg.norm(a, axis=-1, keepdims=True)

    gap = attention(student) - attention(teacher)
    return np.mean(gap**2, -1) if form == "code" else np.linalg.norm(gap, axis=-1)


def huber(x):
    return np.where(np.abs(x) <= 1, x**2 / 2, np.abs(x) - 0.5)


def rkd_distance(student, teacher):
    def relative(x):
        d = np.linalg.norm(x[:, None] - x[None], axis=-1)
        return d / d[d > 0].mean()

    return huber(relative(student) - relative(teacher)).mean(1)


def rkd_angle(student, teacher):
    def angle(x, i, j, k):
        a, b = x[j] - x[i], x[k] - x[i]
        return a @ b / (np.linalg.norm(a) * np.linalg.norm(b)) if i not in (j, k) else 0.0

    n = len(student)
    return np.array(
        [
            sum(huber(angle(student, i, j, k) - angle(teacher, i, j, k)) for j in range(n) for k in range(n)) / n**2
            for i in range(n)
        ]
    )


def sp(student, teacher):
    def gram(x):
        g = x.reshape(len(x), -1) @ x.reshape(len(x), -1).T
        return g / np.linalg.norm(g, axis=1, keepdims=True)

    return ((gram(student) - gram(teacher)) ** 2).mean(1)


def pkt(student, teacher, eps=1e-7):
    def distribution(x):
        x = x / (np.linalg.norm(x, axis=1, keepdims=True) + eps)
        similar = (x @ x.T + 1) / 2
        return similar / similar.sum(1, keepdims=True)

    p, q = distribution(teacher), distribution(student)
    return (p * np.log((p + eps) / (q + eps))).mean(1)


def info_nce(student, teacher, temperature, symmetric=False):
    p = softmax(cosines(student, teacher) / temperature)
    q = softmax(cosines(teacher, student) / temperature)
    one, other = -np.log(np.diag(p)), -np.log(np.diag(q))
    return (one + other) / 2 if symmetric else one
