"""Losses of independent yes-or-no classes (multi-label)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mmkd_jax.losses.checked import checked
from mmkd_jax.losses.number import Positive
from mmkd_jax.losses.numeric import at_least_float32, divergence, softened, squared


@checked
def binary_cross_entropy(
    logits: Float[Array, "*n c"], labels: Bool[Array, "*n c"] | Float[Array, "*n c"]
) -> Float[Array, "*n"]:
    """Cross-entropy of each class by itself, with hard or soft labels.

    Formula: −(1 / C) Σ_c (y_c log σ(z_c) + (1 − y_c) log σ(−z_c))

    Args:
        logits: z, [..., c].
        labels: y, bool or probabilities [..., c].

    Returns:
        Values [...]. Classes at −inf count as removed where their label is 0; elsewhere the value is +inf.

    Compares: logits, labels
    Extra: none
    Source: Nam et al., Large-scale Multi-label Text Classification, 2014, https://arxiv.org/abs/1312.5419

    Example:
        >>> binary_cross_entropy(jnp.array([[0.0, 0.0]]), jnp.array([[True, False]]))
        Array([0.6931472], dtype=float32)
    """
    logits, labels = at_least_float32(logits, labels)
    gone = logits == -jnp.inf
    z = jnp.where(gone, 0, logits)
    values = jax.nn.softplus(z) - labels * z
    classes = jnp.maximum(jnp.sum(~gone, -1).astype(z.dtype), 1)
    impossible = jnp.any(gone & (labels > 0), -1)
    return jnp.where(impossible, jnp.inf, jnp.sum(jnp.where(gone, 0, values), -1) / classes)


@checked
def binary_kl(
    student: Float[Array, "*n c"], teacher: Float[Array, "*n c"], *, temperature: Positive = 1.0
) -> Float[Array, "*n"]:
    """Multi-label logit distillation: KL of each class by itself, summed over the classes.

    Formula: T² Σ_c KL([p_c, 1 − p_c] ‖ [q_c, 1 − q_c]), p = σ(t / T), q = σ(s / T)

    Args:
        student: logits s, [..., c].
        teacher: logits t, [..., c].
        temperature: T > 0, a number or one per example.

    Returns:
        Values [...], with the factor T². A class at −inf in both counts as removed; at −inf in the student only, where
        the teacher has probability, the value is +inf.

    Compares: logits
    Extra: none
    Source: Yang et al., Multi-Label Knowledge Distillation, 2023, https://arxiv.org/abs/2308.06453
    Differs: the authors have no T and clip probabilities at 1e-8

    Example:
        >>> binary_kl(jnp.array([[0.0, 0.0]]), jnp.array([[0.0, 0.0]]))
        Array([0.], dtype=float32)
    """
    student, teacher = at_least_float32(student, teacher)

    def yes_and_no(x):
        x = softened(x, temperature)
        gone = x == -jnp.inf
        z = jnp.where(gone, 0, x)
        pair = jnp.stack([jax.nn.log_sigmoid(z), jax.nn.log_sigmoid(-z)], -1)
        never = jnp.array([-jnp.inf, 0], x.dtype).reshape((1,) * x.ndim + (2,))
        return jnp.where(gone[..., None], never, pair)

    values = divergence(yes_and_no(teacher), yes_and_no(student))
    return squared(temperature, student) * jnp.sum(values, -1)
