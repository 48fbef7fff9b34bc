"""Attention transfer."""

from typing import Literal

import jax.numpy as jnp
from jax.lax import stop_gradient
from jaxtyping import Array, Float

from mmkd_jax.numeric import at_least_float32, distance, like, unit
from mmkd_jax.typing import Scalar
from mmkd_jax.validation import validated


@validated
def attention_transfer(
    student: Float[Array, "b h w c"],
    teacher: Float[Array, "b h w k"],
    *,
    power: Scalar = 2.0,
    form: Literal["code", "paper"] = "code",
) -> Float[Array, " b"]:
    """Attention transfer (AT): match normalized spatial attention maps, the channel mean of |activation|^p.

    Formula: A = vec(mean_c |x_c|^p) / ‖·‖; code: mean_i (A_s − A_t)²_i; paper: ‖A_s − A_t‖

    Args:
        student: feature map [b, h, w, c].
        teacher: feature map [b, h, w, k].
        power: exponent p, a scalar or one value per example.
        form: "code" follows the authors' released code, "paper" the equation in the paper.

    Returns:
        Per-example loss, [b].

    Compares: feature maps of equal size
    Extra: none
    Source: Zagoruyko and Komodakis, Paying More Attention to Attention, 2017, https://arxiv.org/abs/1612.03928
    Differs: the released code averages squares, the paper takes a norm per example; both are available

    Example:
        >>> attention_transfer(jnp.ones((1, 2, 2, 3)), 2 * jnp.ones((1, 2, 2, 5)))
        Array([0.], dtype=float32)
    """
    student, teacher = at_least_float32(student, teacher)

    def attention(x):
        size = jnp.abs(x)
        top = stop_gradient(jnp.max(size, (1, 2, 3), keepdims=True))
        size = size / jnp.where(top != 0, top, 1)  # the map is normalized anyway; this keeps high powers finite
        raised = jnp.where(size != 0, jnp.where(size != 0, size, 1) ** like(power, size), 0)
        return unit(jnp.mean(raised, -1).reshape(len(x), -1))

    gap = attention(student) - attention(teacher)
    return jnp.mean(gap * gap, -1) if form == "code" else distance(jnp.sum(gap * gap, -1))
