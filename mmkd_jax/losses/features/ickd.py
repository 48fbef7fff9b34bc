"""Inter-channel correlation."""

from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Float

from mmkd_jax.losses.checked import checked
from mmkd_jax.losses.numeric import at_least_float32, inner, mean_square, unit


@checked
def ickd(
    student: Float[Array, "b h w c"],
    teacher: Float[Array, "b i j c"],
    *,
    form: Literal["code", "paper"] = "code",
) -> Float[Array, " b"]:
    """Inter-channel correlation (ICKD-C): which channels resemble one another.

    Formula: G = F Fᵀ over the positions; code: (1 / C) ‖G_s − G_t‖², the rows of G divided by their norm; paper:
        (1 / C²) ‖G_s − G_t‖²

    Args:
        student: feature map [b, h, w, c]; a connector brings it to the teacher's channels.
        teacher: feature map [b, i, j, c], of any size.
        form: "code" as the authors released it, "paper" as they wrote it.

    Returns:
        Values [b].

    Compares: correlations of channels
    Extra: usually a connector
    Source: Liu et al., Exploring Inter-Channel Correlation for Diversity-preserved Knowledge Distillation, 2021,
        https://arxiv.org/abs/2202.03680
    Differs: the released code for CIFAR-100 divides the rows of G by their norm, which the paper does not say; that for
        ImageNet, and torchdistill, divide by the size of the batch once more

    Example:
        >>> ickd(jnp.ones((1, 2, 2, 3)), 2 * jnp.ones((1, 1, 1, 3)))
        Array([0.], dtype=float32)
    """
    student, teacher = at_least_float32(student, teacher)

    def correlation(x):
        channels = jnp.swapaxes(x.reshape(len(x), -1, x.shape[-1]), 1, 2)
        gram = inner(channels, channels)
        return unit(gram) if form == "code" else gram

    mean = mean_square(correlation(student) - correlation(teacher))
    return student.shape[-1] * mean if form == "code" else mean
