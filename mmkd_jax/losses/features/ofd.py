"""Overhaul of feature distillation."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from mmkd_jax.losses.checked import checked
from mmkd_jax.losses.numeric import at_least_float32


@checked
def ofd(
    student: Float[Array, "b *n c"], teacher: Float[Array, "b *n c"], margin: Float[Array, " c"]
) -> Float[Array, " b"]:
    """Overhaul of feature distillation (OFD): match pre-activations where the ReLU lets them through, or should not.

    Formula: Σ_i 1[s_i > τ_i or τ_i > 0] (s_i − τ_i)², τ = max(t, m), over all axes but the first

    Args:
        student: pre-activations s [b, ..., c], in front of a ReLU; a connector brings them to the teacher's shape.
        teacher: pre-activations t [b, ..., c].
        margin: m < 0, one per channel [c]: how far below 0 an inactive feature need be.

    Returns:
        Values [b], summed over all features.

    Compares: features in front of a ReLU
    Extra: a connector and the margins; `methods.ofd` has both
    Source: Heo et al., A Comprehensive Overhaul of Feature Distillation, 2019, https://arxiv.org/abs/1904.01866
    Differs: the authors' code weights the sum by 1/1000

    Example:
        >>> ofd(jnp.array([[1.0, -3.0]]), jnp.array([[2.0, -1.0]]), jnp.array([-0.5, -0.5]))
        Array([1.], dtype=float32)
    """
    student, teacher, margin = at_least_float32(student, teacher, margin)
    target = jnp.maximum(teacher, jnp.broadcast_to(margin, teacher.shape))
    gap = jnp.where((student > target) | (target > 0), student - target, 0)
    return jnp.sum(gap * gap, tuple(range(1, gap.ndim)))
