"""Losses between features."""

from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Float

from mmkd_jax.losses.number import Number
from mmkd_jax.losses.numeric import at_least_float32, distance, like, unit


def hint(student: Float[Array, "b ..."], teacher: Float[Array, "b ..."]) -> Float[Array, " b"]:
    """Hint of FitNets: mean squared difference of features.

    Formula: (1 / D) Σ_i (s_i − t_i)², over all axes but the first

    Args:
        student: features s, [b, ...]; a connector brings them to the teacher's shape.
        teacher: features t, [b, ...].

    Returns:
        Values [b].

    Compares: features
    Extra: usually a connector
    Source: Romero et al., FitNets: Hints for Thin Deep Nets, 2015, https://arxiv.org/abs/1412.6550

    Example:
        >>> hint(jnp.array([[1.0, 3.0]]), jnp.array([[1.0, 1.0]]))
        Array([2.], dtype=float32)
    """
    student, teacher = at_least_float32(student, teacher)
    gap = student - teacher
    return jnp.mean(gap * gap, tuple(range(1, gap.ndim)))


def cosine(student: Float[Array, "*n d"], teacher: Float[Array, "*n d"]) -> Float[Array, "*n"]:
    """One minus the cosine of the angle between features.

    Formula: 1 − ⟨s, t⟩ / (‖s‖ ‖t‖)

    Args:
        student: features s, [..., d].
        teacher: features t, [..., d].

    Returns:
        Values [...]; 1 with gradient 0 where a row is zero.

    Compares: features
    Extra: usually a connector
    Source: Sanh et al., DistilBERT, 2019, https://arxiv.org/abs/1910.01108

    Example:
        >>> cosine(jnp.array([[1.0, 0.0]]), jnp.array([[0.0, 2.0]]))
        Array([1.], dtype=float32)
    """
    student, teacher = at_least_float32(student, teacher)
    return 1 - jnp.sum(unit(student) * unit(teacher), -1)


def attention_transfer(
    student: Float[Array, "b h w c"],
    teacher: Float[Array, "b h w k"],
    *,
    power: Number = 2.0,
    form: Literal["code", "paper"] = "code",
) -> Float[Array, " b"]:
    """Attention transfer: where the channels are active, as a normalised map.

    Formula: A = vec(mean_c |x_c|^p) / ‖·‖; code: mean_i (A_s − A_t)²_i; paper: ‖A_s − A_t‖

    Args:
        student: feature map [b, h, w, c].
        teacher: feature map [b, h, w, k].
        power: p.
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
        raised = jnp.where(size > 0, jnp.where(size > 0, size, 1) ** like(power, size[0, 0, 0, 0]), 0)
        return unit(jnp.mean(raised, -1).reshape(len(x), -1))

    gap = attention(student) - attention(teacher)
    return jnp.mean(gap * gap, -1) if form == "code" else distance(jnp.sum(gap * gap, -1))
