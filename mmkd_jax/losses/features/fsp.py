"""Flow of the solution procedure (FSP)."""

from itertools import pairwise
from typing import Literal

import jax.numpy as jnp
from jax.lax import slice_in_dim
from jaxtyping import Array, Float

from mmkd_jax.errors import UserError
from mmkd_jax.numeric import at_least_float32
from mmkd_jax.validation import validated


@validated
def fsp(
    student: tuple[Float[Array, "b _ _ _"], ...],
    teacher: tuple[Float[Array, "b _ _ _"], ...],
    *,
    pool: Literal["max", "average"] = "max",
) -> Float[Array, " b"]:
    """Flow of the solution procedure (FSP): Gram matrices between the channels of consecutive layers.

    Formula: Σ_i ‖G_s,i − G_t,i‖², G_i = (1 / hw) Σ_xy F_i[x, y] F_i+1[x, y]ᵀ, over consecutive maps

    The larger of two consecutive maps is pooled to the size of the smaller. Student and teacher sizes may differ.

    Args:
        student: two or more feature maps F_i, each [b, h, w, c], of any sizes and channel counts.
        teacher: equally many feature maps, with the student's channel counts.
        pool: pooling of the larger map: "max" as in the paper, "average" as in the widely cited RepDistiller tables.

    Returns:
        Per-example loss, [b].

    Compares: flow between consecutive feature maps
    Extra: a connector if the channel counts differ
    Source: Yim et al., A Gift from Knowledge Distillation, 2017,
        https://openaccess.thecvf.com/content_cvpr_2017/html/Yim_A_Gift_From_CVPR_2017_paper.html
    Differs: the paper sums squares; RepDistiller averages them over each G and uses average pooling; torchdistill sums
        the column norms without squaring them

    Example:
        >>> one, two = jnp.ones((1, 2, 2, 3)), jnp.ones((1, 1, 1, 2))
        >>> fsp((one, two), (2 * one, two))
        Array([6.], dtype=float32)
    """
    arrays = at_least_float32(*student, *teacher)
    ours, theirs = arrays[: len(student)], arrays[len(student) :]
    channels, teacher_channels = ([x.shape[-1] for x in maps] for maps in (ours, theirs))
    if channels != teacher_channels or len(channels) < 2:
        raise UserError(
            f"fsp: student maps have {channels} channels, teacher maps have {teacher_channels}; expected two "
            "or more maps with matching channels"
        )

    def flow(first, second):
        size = tuple(map(min, first.shape[1:3], second.shape[1:3]))
        first, second = _pooled(first, size, pool), _pooled(second, size, pool)
        return jnp.einsum("bhwc,bhwd->bcd", first, second, precision="highest") / (size[0] * size[1])

    gaps = [flow(*s) - flow(*t) for s, t in zip(pairwise(ours), pairwise(theirs), strict=True)]
    return jnp.sum(jnp.stack([jnp.sum(gap * gap, (1, 2)) for gap in gaps]), 0)


def _pooled(x, size, pool):
    """Adaptive pooling: evenly spaced windows that cover the map and may overlap."""
    reduce = {"max": jnp.max, "average": jnp.mean}[pool]
    for axis, n in enumerate(size, 1):
        m = x.shape[axis]
        if m > n:
            bounds = [(i * m // n, -(-(i + 1) * m // n)) for i in range(n)]
            x = jnp.stack([reduce(slice_in_dim(x, *b, axis=axis), axis) for b in bounds], axis)
    return x
