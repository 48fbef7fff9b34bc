"""Correlation congruence."""

from math import factorial

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mmkd_jax.collectives import gather
from mmkd_jax.numeric import at_least_float32, inner, like, rows_that_count, unit, zero_rows
from mmkd_jax.typing import Count, Positive
from mmkd_jax.validation import validated


@validated
def cc(
    student: Float[Array, "b d"],
    teacher: Float[Array, "b e"],
    *,
    gamma: Positive = 0.4,
    order: Count = 2,
    where: Bool[Array, " b"] | None = None,
    axis_name: str | None = None,
) -> Float[Array, " b"]:
    """Correlation congruence (CC): MSE of Gaussian kernel matrices of the batch, by Taylor expansion.

    Formula: (1 / n) Σ_j (k(s_i, s_j) − k(t_i, t_j))², k(x, y) = e^(−2γ) Σ_p≤P (2γ ⟨x, y⟩)^p / p! ≈ exp(−γ ‖x − y‖²)

    The series expands the Gaussian kernel of unit-norm rows, so each row is divided by its norm.

    Args:
        student: embeddings s, [b, d].
        teacher: embeddings t, [b, e].
        gamma: γ > 0, the kernel's inverse width.
        order: P, the order of the expansion.
        where: mask of valid rows, [b].
        axis_name: mapped device axis, as in `jax.lax.psum`, inside `shard_map` or `pmap`; otherwise None.

    Returns:
        Per-example loss, [b]; the mean is the paper's ‖K_s − K_t‖² / n².

    Compares: relations between examples
    Extra: none
    Source: Peng et al., Correlation Congruence for Knowledge Distillation, 2019, https://arxiv.org/abs/1904.01802
    Differs: torchdistill does not divide the rows by their norm, and does not square the norm of K_s − K_t;
        RepDistiller multiplies the differences of neighboring rows, so that the order of the batch matters

    Example:
        >>> x = jnp.array([[0.0, 1.0], [1.0, 1.0]])
        >>> bool((cc(x, 2 * x) < 1e-6).all())
        True
    """
    student, teacher = at_least_float32(student, teacher)

    def kernel(x, others):
        product = inner(unit(x), unit(others))
        width = 2 * like(gamma, product)
        return jnp.exp(-width) * sum((width * product) ** p / factorial(p) for p in range(order + 1))

    return _congruence(student, teacher, kernel, where, axis_name)


@validated
def cc_bilinear(
    student: Float[Array, "b d"],
    teacher: Float[Array, "b e"],
    *,
    where: Bool[Array, " b"] | None = None,
    axis_name: str | None = None,
) -> Float[Array, " b"]:
    """Correlation congruence (CC) with bilinear pooling: MSE of unnormalized Gram matrices of the batch.

    Formula: (1 / n) Σ_j (⟨s_i, s_j⟩ − ⟨t_i, t_j⟩)²

    Args:
        student: embeddings s, [b, d].
        teacher: embeddings t, [b, e].
        where: mask of valid rows, [b].
        axis_name: mapped device axis, as in `jax.lax.psum`, inside `shard_map` or `pmap`; otherwise None.

    Returns:
        Per-example loss, [b]; the mean is the paper's ‖K_s − K_t‖² / n².

    Compares: relations between examples
    Extra: none
    Source: Peng et al., Correlation Congruence for Knowledge Distillation, 2019, https://arxiv.org/abs/1904.01802
    Differs: torchdistill does not square the norm of K_s − K_t

    Example:
        >>> cc_bilinear(jnp.eye(2), jnp.array([[1.0], [2.0]]))
        Array([2. , 6.5], dtype=float32)
    """
    student, teacher = at_least_float32(student, teacher)
    return _congruence(student, teacher, inner, where, axis_name)


def _congruence(student, teacher, kernel, where, axis_name):
    mask = rows_that_count(student, where)
    all_valid, _ = gather(mask, axis_name)

    def correlation(x):
        x = zero_rows(x, mask)
        return kernel(x, gather(x, axis_name)[0])

    n = jnp.maximum(jnp.sum(all_valid).astype(student.dtype), 1)
    gap = correlation(student) - correlation(teacher)
    return jnp.sum(jnp.where(mask[:, None] & all_valid[None, :], gap * gap, 0), 1) / n
