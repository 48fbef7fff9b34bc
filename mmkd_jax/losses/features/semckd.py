"""Cross-layer distillation with semantic calibration (SemCKD)."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from mmkd_jax.errors import UserError
from mmkd_jax.losses._layers import beside
from mmkd_jax.numeric import at_least_float32, mean_square
from mmkd_jax.validation import validated


@validated
def semckd(
    student: tuple[Float[Array, "b ..."], ...],
    teacher: tuple[Float[Array, "b ..."], ...],
    weights: Float[Array, "b s t"],
) -> Float[Array, " b"]:
    """Cross-layer distillation with semantic calibration (SemCKD): attention-weighted MSE over all layer pairs.

    Formula: (1 / S) Σ_ij w_ij mean(s_ij − t_ij)²

    `methods.semckd` learns the projections and the weights.

    Args:
        student: student features for each pair (0, 0), (0, 1), … of a student and a teacher layer, projected to the
            teacher's shape, each [b, ...].
        teacher: teacher features for each pair, of the same shapes.
        weights: w, [b, s, t], for S student and T teacher layers; they sum to 1 over the teacher layers.

    Returns:
        Per-example loss, [b].

    Compares: features of several layers
    Extra: projections and attention weights, trained by `methods.semckd`
    Source: Chen et al., Cross-Layer Distillation with Semantic Calibration, 2021, https://arxiv.org/abs/2012.03236

    Example:
        >>> near, far = jnp.ones((1, 3)), 3 * jnp.ones((1, 3))
        >>> semckd((near, far), (0 * near, 0 * near), jnp.array([[[0.75, 0.25]]]))
        Array([3.], dtype=float32)
    """
    batch, layers, teacher_layers = weights.shape
    if len(student) != layers * teacher_layers:
        raise UserError(
            f"semckd: student has {len(student)} arrays; expected {layers} × {teacher_layers}, the shape of weights"
        )
    errors = jnp.stack([mean_square(s - t) for s, t in beside("semckd", student, teacher, alike=True)], 1)
    weights, errors = at_least_float32(weights, errors)
    return jnp.sum(weights.reshape(batch, -1) * errors, 1) / layers
