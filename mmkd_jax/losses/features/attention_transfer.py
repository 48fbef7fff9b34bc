"""Attention transfer."""

from typing import Literal

import jax.numpy as jnp
from jax.lax import stop_gradient
from jaxtyping import Array, Float

from mmkd_jax.losses.checked import checked
from mmkd_jax.losses.number import Number
from mmkd_jax.losses.numeric import at_least_float32, distance, like, unit


@checked
def attention_transfer(
    student: Float[Array, "b h w c"],
    teacher: Float[Array, "b h w k"],
    *,
    power: Number = 2.0,
    form: Literal["code", "paper"] = "code",
) -> Float[Array, " b"]:
    """Attention transfer (AT): where the channels are active, as a normalised map.

    Formula: A = vec(mean_c |x_c|^p) / ‖·‖; code: mean_i (A_s − A_t)²_i; paper: ‖A_s − A_t‖

    Args:
        student: feature map [b, h, w, c].
        teacher: feature map [b, h, w, k].
        power: p, a number or one per example.
        form: "code" as the authors released it, "paper" as they wrote it.

    Returns:
        Values [b].

    Compares: feature maps of one size
    Extra: none
    Source: Zagoruyko and Komodakis, Paying More Attention to Attention, 2017, https://arxiv.org/abs/1612.03928
    Differs: the released code is the mean of squares, the paper a norm per example; both are offered

    Example:
        >>> attention_transfer(jnp.ones((1, 2, 2, 3)), 2 * jnp.ones((1, 2, 2, 5)))
        Array([0.], dtype=float32)
    """
    student, teacher = at_least_float32(student, teacher)

    def attention(x):
        size = jnp.abs(x)
        top = stop_gradient(jnp.max(size, (1, 2, 3), keepdims=True))
        size = size / jnp.where(top > 0, top, 1)  # the map is of unit norm anyway, and high powers stay finite
        raised = jnp.where(size > 0, jnp.where(size > 0, size, 1) ** like(power, size), 0)
        return unit(jnp.mean(raised, -1).reshape(len(x), -1))

    gap = attention(student) - attention(teacher)
    return jnp.mean(gap * gap, -1) if form == "code" else distance(jnp.sum(gap * gap, -1))
