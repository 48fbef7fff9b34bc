"""The contrast of compositional contrastive learning."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Integer

from mmkd_jax.losses.checked import checked
from mmkd_jax.losses.gather import gather
from mmkd_jax.losses.number import Positive
from mmkd_jax.losses.numeric import at_least_float32, inner, like, rows_that_count, unit, zero_rows


@checked
def ccl(
    student: Float[Array, "b d"],
    teacher: Float[Array, "b d"],
    labels: Integer[Array, " b"],
    *,
    temperature: Positive = 0.5,
    symmetric: bool = False,
    where: Bool[Array, " b"] | None = None,
    axis: str | None = None,
) -> Float[Array, " b"]:
    """Multi-class contrast of CCL: towards the rows of one's class, away from the others, both in equal parts.

    Formula: mean_{j: y_j = y_i} −log p_ij + mean_{j: y_j ≠ y_i} −log(1 − p_ij), p_i = softmax_j(cos(s_i, t_j) / τ);
    symmetric: plus the same with s and t exchanged

    Args:
        student: embeddings s, [b, d].
        teacher: embeddings t, [b, d], of another modality.
        labels: y, [b].
        temperature: τ > 0.
        symmetric: both directions, added.
        where: rows that count, [b]; the others are no partners either.
        axis: the device axis in the per-device forms.

    Returns:
        Values [b]. A batch of one class has no second part.

    Compares: embeddings, labels
    Extra: usually a connector; `methods.ccl` has the composition of both
    Source: Chen et al., Distilling Audio-Visual Knowledge by Compositional Contrastive Learning, 2021,
        https://arxiv.org/abs/2104.10955
    Differs: the authors' code adds 1e-10 inside both logarithms, and is NaN where all rows are of one class

    Example:
        >>> x = jnp.eye(2)
        >>> [f"{v:.4f}" for v in ccl(x, x, jnp.array([0, 1]), temperature=1.0)]
        ['0.6265', '0.6265']
    """
    student, teacher = at_least_float32(student, teacher)
    mask = rows_that_count(student, where)
    student, teacher = (unit(zero_rows(x, mask)) for x in (student, teacher))
    everyone, first = gather(mask, axis)
    own = (first + jnp.arange(len(mask)))[:, None] == jnp.arange(len(everyone))[None, :]
    # a row that does not count keeps its own partner, so that its softmax is not over nothing
    allowed = everyone[None, :] | own
    alike = (labels[:, None] == gather(labels, axis)[0][None, :]) | own

    def average(values, chosen):
        count = jnp.sum(chosen, 1).astype(values.dtype)
        return jnp.sum(jnp.where(chosen, values, 0), 1) / jnp.maximum(count, 1)

    def towards(anchor, others):
        score = jnp.where(allowed, inner(anchor, gather(others, axis)[0]) / like(temperature, anchor[0, 0]), -jnp.inf)
        logp = jax.nn.log_softmax(score, -1)
        near, far = allowed & alike, allowed & ~alike
        return average(-jnp.where(near, logp, 0), near) + average(-_log_rest(logp, far), far)

    values = towards(student, teacher)
    return values + towards(teacher, student) if symmetric else values


def _log_rest(logp: Float[Array, "b n"], chosen: Bool[Array, "b n"]) -> Float[Array, "b n"]:
    """log(1 − p) where chosen: of the largest p it is the logarithm of the others' sum, exact however close to 0."""
    top = jnp.argmax(logp, 1)[:, None] == jnp.arange(logp.shape[1])[None, :]
    others = jnp.where(top, -jnp.inf, logp)
    some = jnp.any(others > -jnp.inf, 1, keepdims=True)
    of_top = jax.nn.logsumexp(jnp.where(some, others, 0), 1, keepdims=True)
    p = jnp.exp(jnp.where(chosen & ~top, logp, -jnp.inf))
    return jnp.where(chosen, jnp.where(top, of_top, jnp.log1p(-p)), 0)
