"""Multi-label losses: each class is an independent binary decision."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mmkd_jax.numeric import at_least_float32, divergence, softened, squared
from mmkd_jax.typing import Positive
from mmkd_jax.validation import validated


@validated
def binary_cross_entropy(
    logits: Float[Array, "*n c"], labels: Bool[Array, "*n c"] | Float[Array, "*n c"]
) -> Float[Array, "*n"]:
    """Binary cross-entropy for multi-label classification, averaged over classes, with hard or soft labels.

    Formula: −(1 / C) Σ_c (y_c log σ(z_c) + (1 − y_c) log σ(−z_c))

    Args:
        logits: z, [..., c].
        labels: y, booleans or probabilities, [..., c].

    Returns:
        Values [...]. Classes at −inf with label 0 are ignored; with a positive label the value is +inf.

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


@validated
def binary_kl(
    student: Float[Array, "*n c"], teacher: Float[Array, "*n c"], *, temperature: Positive = 1.0
) -> Float[Array, "*n"]:
    """Multi-label logit distillation: binary KL divergence of each class, summed over classes.

    Formula: T² Σ_c KL([p_c, 1 − p_c] ‖ [q_c, 1 − q_c]), p = σ(t / T), q = σ(s / T)

    Args:
        student: logits s, [..., c].
        teacher: logits t, [..., c].
        temperature: T > 0, a scalar or one value per example.

    Returns:
        Values [...], with the factor T². A class at −inf in both is ignored; at −inf in the student only, the value is
        +inf if the teacher gives it probability.

    Compares: logits
    Extra: none
    Source: Yang et al., Multi-Label Knowledge Distillation, 2023, https://arxiv.org/abs/2308.06453
    Differs: the authors use no temperature and clip probabilities at 1e-8

    Example:
        >>> binary_kl(jnp.array([[0.0, 0.0]]), jnp.array([[0.0, 0.0]]))
        Array([0.], dtype=float32)
    """
    student, teacher = at_least_float32(student, teacher)

    def bernoulli(x):
        x = softened(x, temperature)
        gone = x == -jnp.inf
        z = jnp.where(gone, 0, x)
        pair = jnp.stack([jax.nn.log_sigmoid(z), jax.nn.log_sigmoid(-z)], -1)
        log_zero = jnp.array([-jnp.inf, 0], x.dtype).reshape((1,) * x.ndim + (2,))
        return jnp.where(gone[..., None], log_zero, pair)

    values = divergence(bernoulli(teacher), bernoulli(student))
    return squared(temperature, student) * jnp.sum(values, -1)
