"""Factor transfer."""

from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Float

from mmkd_jax.numeric import at_least_float32, distance, unit
from mmkd_jax.validation import validated


@validated
def factor_transfer(
    student: Float[Array, "b *n d"], teacher: Float[Array, "b *n d"], *, power: Literal[1, 2] = 1
) -> Float[Array, " b"]:
    """Factor transfer (FT): distance between the L2-normalized factors of student and teacher.

    Formula: ‖s / ‖s‖₂ − t / ‖t‖₂‖_p, over all axes but the first

    Args:
        student: factor s, [b, ...]: the translator's output.
        teacher: factor t, [b, ...]: the paraphraser's output.
        power: order p of the norm, 1 or 2.

    Returns:
        Per-example loss, [b].

    Compares: factors of feature maps
    Extra: a paraphraser of the teacher's features and a translator of the student's, as in `methods.factor_transfer`
    Source: Kim et al., Paraphrasing Complex Network: Network Compression via Factor Transfer, 2018, https://arxiv.org/abs/1802.04977
    Differs: for p = 1 the authors' code averages over the D elements, whereas the paper's norm is a sum, as here:
        their weight 500 corresponds to 500 / D. RepDistiller replaces s by mean_c s²_c, and t likewise

    Example:
        >>> factor_transfer(jnp.array([[3.0, 0.0]]), jnp.array([[0.0, 2.0]]))
        Array([2.], dtype=float32)
    """
    student, teacher = at_least_float32(student, teacher)
    gap = unit(student.reshape(len(student), -1)) - unit(teacher.reshape(len(teacher), -1))
    return jnp.sum(jnp.abs(gap), -1) if power == 1 else distance(jnp.sum(gap * gap, -1))
