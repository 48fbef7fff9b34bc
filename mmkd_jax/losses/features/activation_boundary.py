"""Activation-boundary distillation."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from mmkd_jax.numeric import at_least_float32, keep_nan, like
from mmkd_jax.typing import Scalar
from mmkd_jax.validation import validated


@validated
def activation_boundary(
    student: Float[Array, " b *n"], teacher: Float[Array, " b *n"], *, margin: Scalar = 1.0
) -> Float[Array, " b"]:
    """Activation boundaries (AB): hinge loss on the sign, not the magnitude, of the teacher's pre-activations.

    Formula: Σ_i max(0, μ − s_i)² where t_i > 0, else max(0, μ + s_i)²

    Args:
        student: pre-ReLU features s, [b, ...]; use a connector to match the teacher's shape.
        teacher: pre-ReLU features t, [b, ...]; only their signs matter.
        margin: hinge margin μ.

    Returns:
        Per-example loss, [b], summed over all neurons, as in the paper and the authors' code. The authors weight the
        layers by 1, 1/2, 1/4, …, starting from the last, and scale the total by 3/1000.

    Compares: pre-activation features
    Extra: usually a connector
    Source: Heo et al., Knowledge Transfer via Distillation of Activation Boundaries Formed by Hidden Neurons, 2019,
        https://arxiv.org/abs/1811.03233

    Example:
        >>> activation_boundary(jnp.array([[0.5, 2.0, -3.0]]), jnp.array([[1.0, 0.1, -0.1]]))
        Array([0.25], dtype=float32)
    """
    student, teacher = at_least_float32(student, teacher)
    signed = jnp.where(teacher > 0, student, -student)
    hinge = jnp.maximum(like(margin, signed) - signed, 0)
    return keep_nan(jnp.sum(hinge * hinge, tuple(range(1, hinge.ndim))), teacher)
