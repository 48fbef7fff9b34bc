"""Multi-level logit distillation: Gram matrices of probabilities, over rows and over classes."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mmkd_jax.collectives import gather, summed
from mmkd_jax.numeric import at_least_float32, inner, log_softmax, rows_that_count, softened, zero_rows
from mmkd_jax.typing import Positive
from mmkd_jax.validation import validated


@validated
def mlkd_batch(
    student: Float[Array, "b c"],
    teacher: Float[Array, "b c"],
    *,
    temperature: Positive = 4.0,
    where: Bool[Array, " b"] | None = None,
    axis_name: str | None = None,
) -> Float[Array, " b"]:
    """Batch-level MLKD: squared difference of the row-by-row Gram matrices of softened probabilities.

    Formula: Σ_j (⟨q_i, q_j⟩ − ⟨p_i, p_j⟩)², p = softmax(t / T), q = softmax(s / T)

    Args:
        student: logits s, [b, c].
        teacher: logits t, [b, c].
        temperature: T > 0; the authors sum over several.
        where: mask of valid rows, [b].
        axis_name: device axis inside `shard_map` or `pmap`; None otherwise.

    Returns:
        Values [b]; their mean is ‖Q Qᵀ − P Pᵀ‖² / n. A class at −inf has probability 0.

    Compares: logits, relations of rows
    Extra: none
    Source: Jin et al., Multi-Level Logit Distillation, 2023,
        https://openaccess.thecvf.com/content/CVPR2023/html/Jin_Multi-Level_Logit_Distillation_CVPR_2023_paper.html

    Example:
        >>> mlkd_batch(jnp.zeros((2, 4)), jnp.zeros((2, 4)))
        Array([0., 0.], dtype=float32)
    """
    student, teacher = at_least_float32(student, teacher)
    mask = rows_that_count(student, where)
    valid, _ = gather(mask, axis_name)

    def gram(x):
        p = _probabilities(x, temperature, mask)
        return inner(p, gather(p, axis_name)[0])

    gap = gram(student) - gram(teacher)
    return jnp.sum(jnp.where(valid[None], gap * gap, 0), 1)


@validated
def mlkd_class(
    student: Float[Array, "b c"],
    teacher: Float[Array, "b c"],
    *,
    temperature: Positive = 4.0,
    where: Bool[Array, " b"] | None = None,
    axis_name: str | None = None,
) -> Float[Array, ""]:
    """Class-level MLKD: squared difference of the class-by-class Gram matrices of softened probabilities.

    Formula: ‖Qᵀ Q − Pᵀ P‖² / C, P = softmax(t / T), Q = softmax(s / T) with one row per example

    Args:
        student: logits s, [b, c].
        teacher: logits t, [b, c].
        temperature: T > 0; the authors sum over several.
        where: mask of valid rows, [b].
        axis_name: device axis inside `shard_map` or `pmap`; None otherwise.

    Returns:
        One value for the batch; as in the authors' code, it grows with the number of rows. Classes at −inf in both are
        ignored.

    Compares: logits, relations of classes
    Extra: none
    Source: Jin et al., Multi-Level Logit Distillation, 2023,
        https://openaccess.thecvf.com/content/CVPR2023/html/Jin_Multi-Level_Logit_Distillation_CVPR_2023_paper.html

    Example:
        >>> mlkd_class(jnp.zeros((2, 4)), jnp.zeros((2, 4)))
        Array(0., dtype=float32)
    """
    student, teacher = at_least_float32(student, teacher)
    mask = rows_that_count(student, where)
    gone = (student == -jnp.inf) & (teacher == -jnp.inf)
    classes = jnp.any(gather(~gone & mask[:, None], axis_name)[0], 0)

    def gram(x):
        p = _probabilities(x, temperature, mask)
        return summed(inner(p.T, p.T), axis_name)

    gap = gram(student) - gram(teacher)
    return jnp.sum(gap * gap) / jnp.maximum(jnp.sum(classes).astype(gap.dtype), 1)


def _probabilities(x, temperature, mask):
    """Softened probabilities; 0 in invalid rows."""
    return zero_rows(jnp.exp(log_softmax(softened(zero_rows(x, mask), temperature))), mask)
