"""Losses of retrieval as the papers write them, in NumPy."""

import numpy as np

from tests.losses.formulas.common import cosines, divergence, softmax


def similarities(x, y, similarity):
    return cosines(x, y) if similarity == "cosine" else x @ y.T


def in_batch_nll(query, document, temperature, query_id=None, document_id=None, similarity="cosine", symmetric=False):
    def one_way(x, y):
        scores, values = similarities(x, y, similarity) / temperature, []
        for i in range(len(x)):
            shared = [ids == ids[i] for ids in (query_id, document_id) if ids is not None]
            negative = [j for j in range(len(x)) if not any(same[j] for same in shared) and j != i]
            values.append(np.log(np.exp(scores[i, [i, *negative]]).sum()) - scores[i, i])
        return np.array(values)

    forth = one_way(query, document)
    return (forth + one_way(document, query)) / 2 if symmetric else forth


def in_batch_kl(student, teacher, temperature, teacher_temperature, similarity="cosine"):
    p = softmax(similarities(teacher[0], teacher[1], similarity) / teacher_temperature)
    return divergence(p, softmax(similarities(student[0], student[1], similarity) / temperature))


def listwise_kl(student, teacher, temperature, mask=None):
    values = []
    for i, t in enumerate(np.broadcast_to(temperature, len(student))):
        keep = np.ones(student.shape[1], bool) if mask is None else mask[i]
        values.append(t**2 * divergence(softmax(teacher[i, keep] / t), softmax(student[i, keep] / t)))
    return np.array(values)


def margin_mse(student, teacher):
    return np.array(
        [
            np.mean([((s - a) - (t - b)) ** 2 for a, b in zip(np.ravel(others), np.ravel(theirs), strict=True)])
            for s, others, t, theirs in zip(*student, *teacher, strict=True)
        ]
    )


def max_sim(query, document, query_mask, document_mask):
    return np.array(
        [
            sum(max((x @ y for y in d[keep]), default=0) for x in q[there])
            for q, d, there, keep in zip(query, document, query_mask, document_mask, strict=True)
        ]
    )
