"""Semantic calibration: each layer of the student learns from the layers of the teacher that mean the same."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from mmkd_jax.losses.checked import BadInput, checked
from mmkd_jax.losses.layers import beside
from mmkd_jax.losses.numeric import at_least_float32, mean_square


@checked
def semckd(
    student: tuple[Float[Array, "b ..."], ...],
    teacher: tuple[Float[Array, "b ..."], ...],
    weights: Float[Array, "b s t"],
) -> Float[Array, " b"]:
    """Cross-layer distillation with semantic calibration (SemCKD): all pairs of layers, by how well they match.

    Formula: (1 / S) Σ_ij w_ij mean(s_ij − t_ij)²

    `methods.semckd` learns the projections and the weights.

    Args:
        student: for each pair (0, 0), (0, 1), … of a student's and a teacher's layer, the student's features projected
            to the teacher's shape, each [b, ...].
        teacher: for each pair, the teacher's features, of the same shapes.
        weights: w, [b, s, t], for S student's and T teacher's layers; over the teacher's they add up to 1.

    Returns:
        Values [b].

    Compares: features of several layers
    Extra: projections and attention weights, as `methods.semckd` trains them
    Source: Chen et al., Cross-Layer Distillation with Semantic Calibration, 2021, https://arxiv.org/abs/2012.03236

    Example:
        >>> near, far = jnp.ones((1, 3)), 3 * jnp.ones((1, 3))
        >>> semckd((near, far), (0 * near, 0 * near), jnp.array([[[0.75, 0.25]]]))
        Array([3.], dtype=float32)
    """
    rows, layers, others = weights.shape
    if len(student) != layers * others:
        raise BadInput(f"semckd: student has {len(student)} arrays; expected {layers} × {others}, as weights has")
    apart = jnp.stack([mean_square(s - t) for s, t in beside("semckd", student, teacher, alike=True)], 1)
    weights, apart = at_least_float32(weights, apart)
    return jnp.sum(weights.reshape(rows, -1) * apart, 1) / layers
