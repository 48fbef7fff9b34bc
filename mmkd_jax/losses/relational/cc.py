"""Correlation congruence."""

from math import factorial

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mmkd_jax.losses.checked import checked
from mmkd_jax.losses.gather import gather
from mmkd_jax.losses.number import Positive
from mmkd_jax.losses.numeric import at_least_float32, inner, like, rows_that_count, unit, zero_rows


@checked
def cc(
    student: Float[Array, "b d"],
    teacher: Float[Array, "b e"],
    *,
    gamma: Positive = 0.4,
    order: int = 2,
    where: Bool[Array, " b"] | None = None,
    axis: str | None = None,
) -> Float[Array, " b"]:
    """Correlation congruence (CC): the Gaussian kernel between the rows of the batch, as a Taylor series.

    Formula: (1 / n) Σ_j (k(s_i, s_j) − k(t_i, t_j))², k(x, y) = e^(−2γ) Σ_p≤P (2γ ⟨x, y⟩)^p / p! ≈ exp(−γ ‖x − y‖²)

    The series is that of the Gaussian kernel for rows of norm 1: each row is divided by its norm.

    Args:
        student: embeddings s, [b, d].
        teacher: embeddings t, [b, e].
        gamma: γ > 0.
        order: P, at which the series ends.
        where: rows that count, [b].
        axis: the device axis in the per-device forms.

    Returns:
        Values [b]; their mean is the paper's ‖K_s − K_t‖² / n².

    Compares: relations of rows
    Extra: none
    Source: Peng et al., Correlation Congruence for Knowledge Distillation, 2019, https://arxiv.org/abs/1904.01802
    Differs: torchdistill does not divide the rows by their norm, and takes the norm of K_s − K_t without its square;
        RepDistiller multiplies the gaps of neighbouring rows, so that the order of the batch matters

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

    return _congruence(student, teacher, kernel, where, axis)


@checked
def cc_bilinear(
    student: Float[Array, "b d"],
    teacher: Float[Array, "b e"],
    *,
    where: Bool[Array, " b"] | None = None,
    axis: str | None = None,
) -> Float[Array, " b"]:
    """Correlation congruence (CC) by bilinear pooling: the products of the rows, as they are.

    Formula: (1 / n) Σ_j (⟨s_i, s_j⟩ − ⟨t_i, t_j⟩)²

    Args:
        student: embeddings s, [b, d].
        teacher: embeddings t, [b, e].
        where: rows that count, [b].
        axis: the device axis in the per-device forms.

    Returns:
        Values [b]; their mean is the paper's ‖K_s − K_t‖² / n².

    Compares: relations of rows
    Extra: none
    Source: Peng et al., Correlation Congruence for Knowledge Distillation, 2019, https://arxiv.org/abs/1904.01802
    Differs: torchdistill takes the norm of K_s − K_t without its square

    Example:
        >>> cc_bilinear(jnp.eye(2), jnp.array([[1.0], [2.0]]))
        Array([2. , 6.5], dtype=float32)
    """
    student, teacher = at_least_float32(student, teacher)
    return _congruence(student, teacher, inner, where, axis)


def _congruence(student, teacher, kernel, where, axis):
    mask = rows_that_count(student, where)
    everyone, _ = gather(mask, axis)

    def correlation(x):
        x = zero_rows(x, mask)
        return kernel(x, gather(x, axis)[0])

    n = jnp.maximum(jnp.sum(everyone).astype(student.dtype), 1)
    gap = correlation(student) - correlation(teacher)
    return jnp.sum(jnp.where(mask[:, None] & everyone[None, :], gap * gap, 0), 1) / n
