"""Multi-level logit distillation: how rows, and how classes, go together."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mmkd_jax.losses.checked import checked
from mmkd_jax.losses.gather import gather, summed
from mmkd_jax.losses.number import Positive
from mmkd_jax.losses.numeric import at_least_float32, inner, log_softmax, rows_that_count, softened, zero_rows


@checked
def mlkd_batch(
    student: Float[Array, "b c"],
    teacher: Float[Array, "b c"],
    *,
    temperature: Positive = 4.0,
    where: Bool[Array, " b"] | None = None,
    axis: str | None = None,
) -> Float[Array, " b"]:
    """MLKD between rows: squared difference of the Gram matrices of softened probabilities.

    Formula: Σ_j (⟨q_i, q_j⟩ − ⟨p_i, p_j⟩)², p = softmax(t / T), q = softmax(s / T)

    Args:
        student: logits s, [b, c].
        teacher: logits t, [b, c].
        temperature: T > 0; the authors sum over several.
        where: rows that count, [b].
        axis: the device axis in the per-device forms.

    Returns:
        Values [b]; their mean is ‖Q Qᵀ − P Pᵀ‖² / n. A class at −inf has the probability 0.

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
    everyone, _ = gather(mask, axis)

    def gram(x):
        p = _probabilities(x, temperature, mask)
        return inner(p, gather(p, axis)[0])

    gap = gram(student) - gram(teacher)
    return jnp.sum(jnp.where(everyone[None], gap * gap, 0), 1)


@checked
def mlkd_class(
    student: Float[Array, "b c"],
    teacher: Float[Array, "b c"],
    *,
    temperature: Positive = 4.0,
    where: Bool[Array, " b"] | None = None,
    axis: str | None = None,
) -> Float[Array, ""]:
    """MLKD between classes: squared difference of how often classes are likely together.

    Formula: ‖Qᵀ Q − Pᵀ P‖² / C, P = softmax(t / T), Q = softmax(s / T) with a row for each example

    Args:
        student: logits s, [b, c].
        teacher: logits t, [b, c].
        temperature: T > 0; the authors sum over several.
        where: rows that count, [b].
        axis: the device axis in the per-device forms.

    Returns:
        One value for the batch; it grows with the number of rows, as in the authors' code. Classes at −inf in both
        count as removed.

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
    classes = jnp.any(gather(~gone & mask[:, None], axis)[0], 0)

    def gram(x):
        p = _probabilities(x, temperature, mask)
        return summed(inner(p.T, p.T), axis)

    gap = gram(student) - gram(teacher)
    return jnp.sum(gap * gap) / jnp.maximum(jnp.sum(classes).astype(gap.dtype), 1)


def _probabilities(x, temperature, mask):
    """Softened; 0 in rows that do not count."""
    return zero_rows(jnp.exp(log_softmax(softened(zero_rows(x, mask), temperature))), mask)
