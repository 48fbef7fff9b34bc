"""Inter-channel correlation distillation (ICKD)."""

from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Float

from mmkd_jax.numeric import at_least_float32, inner, mean_square, unit
from mmkd_jax.validation import validated


@validated
def ickd(
    student: Float[Array, "b h w c"],
    teacher: Float[Array, "b i j c"],
    *,
    form: Literal["code", "paper"] = "code",
) -> Float[Array, " b"]:
    """Inter-channel correlation (ICKD-C): squared distance between the Gram matrices of channels.

    Formula: G = F Fᵀ over the positions; code: (1 / C) ‖G_s − G_t‖², the rows of G divided by their norm; paper:
        (1 / C²) ‖G_s − G_t‖²

    Args:
        student: feature map [b, h, w, c]; use a connector to match the teacher's channels.
        teacher: feature map [b, i, j, c], of any spatial size.
        form: "code" follows the authors' released code, "paper" the equation in the paper.

    Returns:
        Per-example loss, [b].

    Compares: correlations of channels
    Extra: usually a connector
    Source: Liu et al., Exploring Inter-Channel Correlation for Diversity-preserved Knowledge Distillation, 2021,
        https://arxiv.org/abs/2202.03680
    Differs: the released CIFAR-100 code divides the rows of G by their norm, which the paper does not mention; the
        ImageNet code and torchdistill additionally divide by the batch size

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
