"""Factor transfer."""

from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Float

from mmkd_jax.losses.checked import checked
from mmkd_jax.losses.numeric import at_least_float32, distance, unit


@checked
def factor_transfer(
    student: Float[Array, "b *n d"], teacher: Float[Array, "b *n d"], *, power: Literal[1, 2] = 1
) -> Float[Array, " b"]:
    """Factor transfer (FT): the distance between the normalised factors of student and teacher.

    Formula: ‖s / ‖s‖₂ − t / ‖t‖₂‖_p, over all axes but the first

    Args:
        student: factor s [b, ...], as a translator gives it.
        teacher: factor t [b, ...], as a paraphraser gives it.
        power: p, 1 or 2.

    Returns:
        Values [b].

    Compares: factors of feature maps
    Extra: a paraphraser of the teacher's features, a translator of the student's; `methods.factor_transfer` has both
    Source: Kim et al., Paraphrasing Complex Network: Network Compression via Factor Transfer, 2018, https://arxiv.org/abs/1802.04977
    Differs: for p = 1 the authors' code is the mean over the D elements, the paper's norm their sum: we follow the
        paper, so that their weight 500 is 500 / D here. RepDistiller takes mean_c s²_c for s, and so for t

    Example:
        >>> factor_transfer(jnp.array([[3.0, 0.0]]), jnp.array([[0.0, 2.0]]))
        Array([2.], dtype=float32)
    """
    student, teacher = at_least_float32(student, teacher)
    gap = unit(student.reshape(len(student), -1)) - unit(teacher.reshape(len(teacher), -1))
    return jnp.sum(jnp.abs(gap), -1) if power == 1 else distance(jnp.sum(gap * gap, -1))
