"""Variational information distillation (VID)."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from mmkd_jax.numeric import at_least_float32
from mmkd_jax.validation import validated

SMALLEST = 1e-6


@validated
def vid(
    mean: Float[Array, "b *n c"],
    variance: Float[Array, "b *n c"] | Float[Array, " c"],
    teacher: Float[Array, "b *n c"],
) -> Float[Array, " b"]:
    """Variational information distillation (VID): Gaussian negative log-likelihood of the teacher's features.

    Formula: (1 / D) Σ_i [(t_i − μ_i)² / σ²_i + log σ²_i] / 2, the Gaussian −log q(t | s) up to a constant

    Args:
        mean: μ, [b, ..., c], regressed from the student's features.
        variance: σ² > 0, one per channel [c], or one per feature [b, ..., c]; clipped to at least 1e-6.
        teacher: features t, [b, ..., c].

    Returns:
        Per-example loss, [b], averaged over all features; can be negative for small σ².

    Compares: features
    Extra: a regressor and a variance per channel, trained by `methods.vid`
    Source: Ahn et al., Variational Information Distillation for Knowledge Transfer, 2019, https://arxiv.org/abs/1904.05835
    Differs: the paper sums over features; the authors' code averages, as here

    Example:
        >>> vid(jnp.array([[1.0, 3.0]]), jnp.ones(2), jnp.array([[1.0, 1.0]]))
        Array([1.], dtype=float32)
    """
    mean, variance, teacher = at_least_float32(mean, variance, teacher)
    variance = jnp.broadcast_to(jnp.maximum(variance, SMALLEST), mean.shape)
    nll = (teacher - mean) ** 2 / variance + jnp.log(variance)
    return jnp.mean(nll / 2, tuple(range(1, mean.ndim)))
