"""Distillation of activation boundaries."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from mmkd_jax.losses.checked import checked
from mmkd_jax.losses.number import Number
from mmkd_jax.losses.numeric import at_least_float32, like


@checked
def activation_boundary(
    student: Float[Array, " b *n"], teacher: Float[Array, " b *n"], *, margin: Number = 1.0
) -> Float[Array, " b"]:
    """Activation boundaries (AB): which neurons fire in the teacher, by a hinge in the student, not how strongly.

    Formula: Σ_i max(0, μ − s_i)² where t_i > 0, else max(0, μ + s_i)²

    Args:
        student: features before their ReLU, [b, ...]; a connector brings them to the teacher's shape.
        teacher: features before their ReLU, [b, ...]; only their signs count.
        margin: μ.

    Returns:
        Values [b], the sum over all neurons as in paper and code. The authors weigh the layers by 1, 1/2, 1/4 … from
        the last one backwards, and the whole by 3/1000.

    Compares: features before the activation
    Extra: usually a connector
    Source: Heo et al., Knowledge Transfer via Distillation of Activation Boundaries Formed by Hidden Neurons, 2019,
        https://arxiv.org/abs/1811.03233

    Example:
        >>> activation_boundary(jnp.array([[0.5, 2.0, -3.0]]), jnp.array([[1.0, 0.1, -0.1]]))
        Array([0.25], dtype=float32)
    """
    student, teacher = at_least_float32(student, teacher)
    signed = jnp.where(teacher > 0, student, -student)
    short = jnp.maximum(like(margin, signed) - signed, 0)
    return jnp.sum(short * short, tuple(range(1, short.ndim)))
