"""Contrastive losses as the papers write them, in NumPy."""

import numpy as np

from tests.losses.formulas.common import cosines, softmax


def info_nce(student, teacher, temperature, symmetric=False, ring=False):
    p = softmax(cosines(student, teacher) / temperature)
    q = softmax(cosines(teacher, student) / temperature)
    one, other = -np.log(np.diag(p)), -np.log(np.diag(q))
    return (one + other) / 2 if symmetric else one


def siglip(student, teacher, temperature, bias, ring=False):
    z = 2 * np.eye(len(student)) - 1
    return np.sum(np.log1p(np.exp(-z * (cosines(student, teacher) / temperature + bias))), 1)
