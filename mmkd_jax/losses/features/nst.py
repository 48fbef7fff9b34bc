"""Neuron selectivity transfer."""

from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Float

from mmkd_jax.numeric import at_least_float32, inner, unit
from mmkd_jax.validation import validated


@validated
def nst(
    student: Float[Array, "b h w c"],
    teacher: Float[Array, "b h w k"],
    *,
    kernel: Literal["poly", "linear", "gaussian"] = "poly",
) -> Float[Array, " b"]:
    """Neuron selectivity transfer (NST): squared MMD between distributions of channel activation patterns.

    Formula: mean_ij k(s_i, s_j) + mean_ij k(t_i, t_j) − 2 mean_ij k(s_i, t_j), channel maps divided by their norms;
        poly: k(x, y) = ⟨x, y⟩²; linear: ⟨x, y⟩; gaussian: exp(−‖x − y‖² / 2σ²), σ² the mean of ‖s_i − t_j‖²

    Args:
        student: feature map [b, h, w, c]; each channel s_i is one sample in hw dimensions.
        teacher: feature map [b, h, w, k].
        kernel: "poly" is the kernel of the authors' code, with the paper's d = 2 and c = 0.

    Returns:
        Per-example loss, [b]. An all-zero channel stays zero and gets zero gradient.

    Compares: feature maps of equal size
    Extra: none
    Source: Huang and Wang, Like What You Like: Knowledge Distill via Neuron Selectivity Transfer, 2017,
        https://arxiv.org/abs/1707.01219
    Differs: the authors' code omits the teacher–teacher term, which is constant

    Example:
        >>> nst(jnp.ones((1, 2, 2, 3)), 2 * jnp.ones((1, 2, 2, 5)))
        Array([0.], dtype=float32)
    """
    student, teacher = at_least_float32(student, teacher)
    s, t = (unit(jnp.swapaxes(x.reshape(len(x), -1, x.shape[-1]), 1, 2)) for x in (student, teacher))
    products = inner(s, s), inner(t, t), inner(s, t)
    if kernel == "gaussian":
        student_norms, teacher_norms = (jnp.sum(x * x, -1) for x in (s, t))
        pairs = (student_norms,) * 2, (teacher_norms,) * 2, (student_norms, teacher_norms)
        squares = [a[:, :, None] + b[:, None, :] - 2 * p for p, (a, b) in zip(products, pairs, strict=True)]
        width = jnp.mean(squares[2], (1, 2), keepdims=True)
        width = jnp.where(width > 8 * jnp.finfo(width.dtype).eps, width, 1)  # all patterns are equal
        within_student, within_teacher, between = (jnp.exp(-square / (2 * width)) for square in squares)
    else:
        within_student, within_teacher, between = (p * p for p in products) if kernel == "poly" else products
    return jnp.mean(within_student, (1, 2)) + jnp.mean(within_teacher, (1, 2)) - 2 * jnp.mean(between, (1, 2))
