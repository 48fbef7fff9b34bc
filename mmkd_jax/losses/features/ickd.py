"""Inter-channel correlation."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from mmkd_jax.losses.checked import checked
from mmkd_jax.losses.numeric import at_least_float32, inner, unit


@checked
def ickd(student: Float[Array, "b h w c"], teacher: Float[Array, "b i j c"]) -> Float[Array, " b"]:
    """Inter-channel correlation (ICKD-C): which channels resemble one another.

    Formula: (1 / C) Σ_ij (G_s[i, j] − G_t[i, j])², G = F Fᵀ over the positions, its rows divided by their norm

    Args:
        student: feature map [b, h, w, c]; a connector brings it to the teacher's channels.
        teacher: feature map [b, i, j, c], of any size.

    Returns:
        Values [b]. A channel that is zero everywhere gets the gradient 0.

    Compares: correlations of channels
    Extra: usually a connector
    Source: Liu et al., Exploring Inter-Channel Correlation for Diversity-preserved Knowledge Distillation, 2021,
        https://arxiv.org/abs/2202.03680
    Differs: as in the authors' code for CIFAR-100; their code for ImageNet, and torchdistill, divide by the size of the
        batch once more

    Example:
        >>> ickd(jnp.ones((1, 2, 2, 3)), 2 * jnp.ones((1, 1, 1, 3)))
        Array([0.], dtype=float32)
    """
    student, teacher = at_least_float32(student, teacher)

    def correlation(x):
        channels = jnp.swapaxes(x.reshape(len(x), -1, x.shape[-1]), 1, 2)
        return unit(inner(channels, channels))

    gap = correlation(student) - correlation(teacher)
    return jnp.mean(jnp.sum(gap * gap, 2), 1)
