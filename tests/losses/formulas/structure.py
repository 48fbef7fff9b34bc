"""Losses of sequences in NumPy: text by text, and chains by enumerating all labelings."""

import itertools

import numpy as np

from tests.losses.formulas.common import divergence, softmax


def uld(student, teacher, mask=None, teacher_mask=None, temperature=1.0):
    def one(s, t):
        n, width = min(len(s), len(t)), max(s.shape[1], t.shape[1])
        q, p = (-np.sort(-softmax(x[:n] / temperature), -1) for x in (s, t))
        q, p = (np.pad(x, ((0, 0), (0, width - x.shape[1]))) for x in (q, p))
        return np.mean(np.sum(np.abs(p - q), -1))

    def tokens(x, there):
        return list(x) if there is None else [row[m] for row, m in zip(x, there, strict=True)]

    return np.array([one(*x) for x in zip(tokens(student, mask), tokens(teacher, teacher_mask), strict=True)])


def labelings(emissions, transitions):
    """All of one text, and the score of each."""
    length, classes = emissions.shape
    paths = np.array(list(itertools.product(range(classes), repeat=length)))
    own = emissions[np.arange(length), paths].sum(1)
    return paths, own + transitions[paths[:, :-1], paths[:, 1:]].sum(1)


def marginals(emissions, transitions):
    paths, scores = labelings(emissions, transitions)
    p = softmax(scores)
    classes = range(emissions.shape[1])
    return np.array([[p[paths[:, i] == c].sum() for c in classes] for i in range(len(emissions))])


def crf_nll(logits, transitions, labels, mask=None):
    def one(e, y):
        paths, scores = labelings(e, transitions)
        return -np.log(softmax(scores)[(paths == y).all(1)][0])

    keep = np.ones(labels.shape, bool) if mask is None else mask
    return np.array([one(e[m], y[m]) for e, y, m in zip(logits, labels, keep, strict=True)])


def crf_marginal_kl(student, teacher, mask=None, temperature=1.0):
    def soft(p):
        return p ** (1 / temperature) / np.sum(p ** (1 / temperature), -1, keepdims=True)

    def one(s, t):
        return temperature**2 * np.sum(divergence(soft(marginals(t, teacher[1])), soft(marginals(s, student[1]))))

    keep = np.ones(student[0].shape[:2], bool) if mask is None else mask
    return np.array([one(s[m], t[m]) for s, t, m in zip(student[0], teacher[0], keep, strict=True)])
