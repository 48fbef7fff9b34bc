"""Similarity-preserving distillation (SP)."""

from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mmkd_jax.collectives import gather
from mmkd_jax.numeric import at_least_float32, inner, rows_that_count, unit, zero_rows
from mmkd_jax.validation import validated


@validated
def sp(
    student: Float[Array, "b ..."],
    teacher: Float[Array, "b ..."],
    *,
    norm: Literal["l2", "l1"] = "l2",
    where: Bool[Array, " b"] | None = None,
    axis_name: str | None = None,
) -> Float[Array, " b"]:
    """Similarity-preserving distillation (SP): MSE of row-normalized Gram matrices of the batch.

    Formula: (1 / n) Σ_j (G_s[i, j] − G_t[i, j])², G = X Xᵀ with rows divided by their norm

    Args:
        student: features, [b, ...], flattened.
        teacher: features, [b, ...], flattened.
        norm: norm by which the rows of G are divided: "l2" as in the paper and its tables, "l1" as in torchdistill.
        where: mask of valid rows, [b].
        axis_name: mapped device axis, as in `jax.lax.psum`, inside `shard_map` or `pmap`; otherwise None.

    Returns:
        Per-example loss, [b]; the mean is ‖G_s − G_t‖² / n².

    Compares: relations between examples
    Extra: none
    Source: Tung and Mori, Similarity-Preserving Knowledge Distillation, 2019, https://arxiv.org/abs/1907.09682
    Differs: torchdistill divides the rows by their L1 norm, the paper by their L2 norm; both are available

    Example:
        >>> x = jnp.array([[0.0, 1.0], [1.0, 1.0]])
        >>> bool((sp(x, 2 * x) < 1e-6).all())
        True
    """
    student, teacher = at_least_float32(student, teacher)
    mask = rows_that_count(student, where)
    all_valid, _ = gather(mask, axis_name)

    def gram(x):
        x = zero_rows(x.reshape(len(x), -1), mask)
        others, _ = gather(x, axis_name)
        g = inner(x, others)
        if norm == "l2":
            return unit(g)
        size = jnp.sum(jnp.abs(g), -1, keepdims=True)
        return g / jnp.where(size > 0, size, 1)

    n = jnp.maximum(jnp.sum(all_valid).astype(student.dtype), 1)
    gap = gram(student) - gram(teacher)
    return jnp.sum(gap * gap, 1) / n
