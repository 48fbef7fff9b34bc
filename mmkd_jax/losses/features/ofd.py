"""Overhaul of feature distillation (OFD)."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from mmkd_jax.numeric import at_least_float32, keep_nan
from mmkd_jax.validation import validated


@validated
def ofd(
    student: Float[Array, "b *n c"], teacher: Float[Array, "b *n c"], margin: Float[Array, " c"]
) -> Float[Array, " b"]:
    """Overhaul of feature distillation (OFD): partial L2 distance of pre-ReLU features to margin-ReLU targets.

    Formula: Σ_i 1[s_i > τ_i or τ_i > 0] (s_i − τ_i)², τ = max(t, m), over all axes but the first

    Args:
        student: pre-ReLU features s, [b, ..., c]; use a connector to match the teacher's shape.
        teacher: pre-ReLU features t, [b, ..., c].
        margin: m < 0, one per channel, [c]: the lowest target of an inactive feature.

    Returns:
        Per-example loss, [b], summed over all features.

    Compares: pre-activation features
    Extra: a connector and the margins, as in `methods.ofd`
    Source: Heo et al., A Comprehensive Overhaul of Feature Distillation, 2019, https://arxiv.org/abs/1904.01866
    Differs: the authors' code scales the sum by 1/1000

    Example:
        >>> ofd(jnp.array([[1.0, -3.0]]), jnp.array([[2.0, -1.0]]), jnp.array([-0.5, -0.5]))
        Array([1.], dtype=float32)
    """
    student, teacher, margin = at_least_float32(student, teacher, margin)
    target = jnp.maximum(teacher, jnp.broadcast_to(margin, teacher.shape))
    gap = jnp.where((student > target) | (target > 0), student - target, 0)
    return keep_nan(jnp.sum(gap * gap, tuple(range(1, gap.ndim))), student, target)
