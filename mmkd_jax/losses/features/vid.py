"""Variational information distillation."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from mmkd_jax.losses.checked import checked
from mmkd_jax.losses.numeric import at_least_float32

SMALLEST = 1e-6


@checked
def vid(
    mean: Float[Array, "b *n c"],
    variance: Float[Array, "b *n c"] | Float[Array, " c"],
    teacher: Float[Array, "b *n c"],
) -> Float[Array, " b"]:
    """Variational information distillation (VID): how unlikely the teacher's features are, given the student's.

    Formula: (1 / D) Σ_i [(t_i − μ_i)² / σ²_i + log σ²_i] / 2, the Gaussian −log q(t | s) without its constant

    Args:
        mean: μ [b, ..., c], what is regressed from the student's features.
        variance: σ² > 0, one per channel [c], or one per feature [b, ..., c]. Below 1e-6 it counts as 1e-6.
        teacher: features t [b, ..., c].

    Returns:
        Values [b], the mean over all features; negative where σ² is small.

    Compares: features
    Extra: a regressor and a variance per channel; `methods.vid` trains both
    Source: Ahn et al., Variational Information Distillation for Knowledge Transfer, 2019, https://arxiv.org/abs/1904.05835
    Differs: the paper sums over the features, the authors' code takes their mean; we take the mean

    Example:
        >>> vid(jnp.array([[1.0, 3.0]]), jnp.ones(2), jnp.array([[1.0, 1.0]]))
        Array([1.], dtype=float32)
    """
    mean, variance, teacher = at_least_float32(mean, variance, teacher)
    variance = jnp.broadcast_to(jnp.maximum(variance, SMALLEST), mean.shape)
    surprise = (teacher - mean) ** 2 / variance + jnp.log(variance)
    return jnp.mean(surprise / 2, tuple(range(1, mean.ndim)))
