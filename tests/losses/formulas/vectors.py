"""Losses between vectors of features as the papers write them, in NumPy."""

import numpy as np


def normalized_l2(student, teacher):
    s, t = (x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (student, teacher))
    return np.sum((s - t) ** 2, -1)


def pearson(student, teacher, eps=1e-6):
    def standardized(x):
        out = np.empty_like(x)
        for c in range(x.shape[-1]):
            out[..., c] = (x[..., c] - x[..., c].mean()) / (x[..., c].std(ddof=1) + eps)
        return out

    gap = standardized(student) - standardized(teacher)
    return np.array([np.mean(row**2) / 2 for row in gap])


def pad_l2(student, teacher, log_variance, eps=1e-6):
    return np.mean((student - teacher) ** 2 / (np.exp(log_variance) + eps) + log_variance, -1)


def cka(student, teacher):
    """The paper's form for few features: ‖T̄ᵀ S̄‖² / (‖S̄ᵀ S̄‖ ‖T̄ᵀ T̄‖)."""
    s, t = (x.reshape(len(x), -1) for x in (student, teacher))
    s, t = (x - x.mean(0) for x in (s, t))
    return 1 - np.linalg.norm(t.T @ s) ** 2 / (np.linalg.norm(s.T @ s) * np.linalg.norm(t.T @ t))
