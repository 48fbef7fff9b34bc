"""DIST: distillation by correlation, for stronger teachers."""

from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mmkd_jax.collectives import gather
from mmkd_jax.numeric import at_least_float32, like, log_softmax, pearson, rows_that_count, softened, zero_rows
from mmkd_jax.typing import Positive, Scalar
from mmkd_jax.validation import validated


@validated
def dist(
    student: Float[Array, "b c"],
    teacher: Float[Array, "b c"],
    *,
    beta: Scalar = 1.0,
    gamma: Scalar = 1.0,
    temperature: Positive = 1.0,
    eps: Literal["added", "clamped"] = "added",
    where: Bool[Array, " b"] | None = None,
    axis_name: str | None = None,
) -> Float[Array, " b"]:
    """DIST: Pearson correlation of softened probabilities, across classes within a row and across rows within a class.

    Formula: T² (β (1 − ρ(p_i·, q_i·)) + γ (1 − (1 / C) Σ_c ρ(p_·c, q_·c))), p = softmax(t / T), q = softmax(s / T)

    Args:
        student: logits s, [b, c].
        teacher: logits t, [b, c].
        beta: β, weight of the within-row (inter-class) term.
        gamma: γ, weight of the within-class (intra-class) term.
        temperature: T > 0.
        eps: how 1e-8 keeps ρ = ⟨a, b⟩ / (‖a‖ ‖b‖) finite: "added" to the product of the norms, as in the authors' code,
            or as the lower bound to which each norm is "clamped", as in PyTorch's cosine similarity. The choice matters
            where probabilities are near 1e-4.
        where: mask of valid rows, [b].
        axis_name: device axis inside `shard_map` or `pmap`; None otherwise.

    Returns:
        Values [b], with the factor T²; the within-class term is the same for every row. Classes at −inf in both are
        ignored.

    Compares: logits, relations of rows
    Extra: none
    Source: Huang et al., Knowledge Distillation from A Stronger Teacher, 2022, https://arxiv.org/abs/2205.10536
    Differs: torchdistill clamps the norms, the authors and mmrazor add to the product of the norms; both are available

    Example:
        >>> x = jnp.array([[0.0, 1.0, 3.0], [1.0, 0.0, 0.0]])
        >>> bool((dist(x, x) < 1e-6).all())
        True
    """
    student, teacher = at_least_float32(student, teacher)
    mask = rows_that_count(student, where)
    student, teacher = zero_rows(student, mask), zero_rows(teacher, mask)
    present = ~((student == -jnp.inf) & (teacher == -jnp.inf))
    p, q = (jnp.exp(log_softmax(softened(x, temperature))) for x in (teacher, student))
    form = {"clamped": eps == "clamped", "eps": 1e-8}
    within_row = 1 - pearson(p, q, present, 1, **form)
    p, q, counts = (gather(x, axis_name)[0] for x in (p, q, present & mask[:, None]))
    classes = jnp.any(counts, 0)
    dissimilarity = jnp.where(classes, 1 - pearson(p, q, counts, 0, **form), 0)
    within_class = jnp.sum(dissimilarity) / jnp.maximum(jnp.sum(classes).astype(p.dtype), 1)
    t = like(temperature, within_class)
    return t * t * (like(beta, within_row) * within_row + like(gamma, within_class) * within_class)
