"""DIST: knowledge distillation from a stronger teacher."""

from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mmkd_jax.losses.checked import checked
from mmkd_jax.losses.gather import gather
from mmkd_jax.losses.number import Number, Positive
from mmkd_jax.losses.numeric import at_least_float32, like, log_softmax, pearson, rows_that_count, softened, zero_rows


@checked
def dist(
    student: Float[Array, "b c"],
    teacher: Float[Array, "b c"],
    *,
    beta: Number = 1.0,
    gamma: Number = 1.0,
    temperature: Positive = 1.0,
    eps: Literal["added", "clamped"] = "added",
    where: Bool[Array, " b"] | None = None,
    axis: str | None = None,
) -> Float[Array, " b"]:
    """DIST: correlation of probabilities, over the classes of a row and over the rows of a class.

    Formula: T² (β (1 − ρ(p_i·, q_i·)) + γ (1 − (1 / C) Σ_c ρ(p_·c, q_·c))), p = softmax(t / T), q = softmax(s / T)

    Args:
        student: logits s, [b, c].
        teacher: logits t, [b, c].
        beta: weight of the relation within a row.
        gamma: weight of the relation within a class.
        temperature: T > 0.
        eps: how 1e-8 keeps ρ = ⟨a, b⟩ / (‖a‖ ‖b‖) finite: "added" to the product of norms, as in the authors' code, or
            each norm "clamped" at it, as PyTorch's cosine does; it matters where probabilities are near 1e-4.
        where: rows that count, [b].
        axis: the device axis in the per-device forms.

    Returns:
        Values [b], with the factor T²; the second part is the same in each. Classes at −inf in both count as removed.

    Compares: logits, relations of rows
    Extra: none
    Source: Huang et al., Knowledge Distillation from A Stronger Teacher, 2022, https://arxiv.org/abs/2205.10536
    Differs: torchdistill clamps the norms, the authors and mmrazor add to their product; both are offered

    Example:
        >>> x = jnp.array([[0.0, 1.0, 3.0], [1.0, 0.0, 0.0]])
        >>> bool((dist(x, x) < 1e-6).all())
        True
    """
    student, teacher = at_least_float32(student, teacher)
    mask = rows_that_count(student, where)
    student, teacher = zero_rows(student, mask), zero_rows(teacher, mask)
    there = ~((student == -jnp.inf) & (teacher == -jnp.inf))
    p, q = (jnp.exp(log_softmax(softened(x, temperature))) for x in (teacher, student))
    form = {"clamped": eps == "clamped", "eps": 1e-8}
    within_row = 1 - pearson(p, q, there, 1, **form)
    p, q, counts = (gather(x, axis)[0] for x in (p, q, there & mask[:, None]))
    classes = jnp.any(counts, 0)
    apart = jnp.where(classes, 1 - pearson(p, q, counts, 0, **form), 0)
    within_class = jnp.sum(apart) / jnp.maximum(jnp.sum(classes).astype(p.dtype), 1)
    t = like(temperature, within_class)
    return t * t * (like(beta, within_row) * within_row + like(gamma, within_class) * within_class)
