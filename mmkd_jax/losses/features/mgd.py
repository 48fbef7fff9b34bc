"""Masked generative distillation."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mmkd_jax.convolution import convolve
from mmkd_jax.numeric import at_least_float32
from mmkd_jax.validation import validated


@validated
def mgd(
    student: Float[Array, "b h w c"],
    teacher: Float[Array, "b h w c"],
    mask: Bool[Array, "b h w"] | Bool[Array, "b c"],
    block: tuple[Float[Array, "3 3 c d"], Float[Array, " d"], Float[Array, "3 3 d c"], Float[Array, " c"]],
) -> Float[Array, " b"]:
    """Masked generative distillation (MGD): reconstruct the teacher's full map from a masked student map.

    Formula: Σ_i (t_i − G(m ⊙ s)_i)², G = conv₂ ∘ ReLU ∘ conv₁ with 3×3 kernels, over positions and channels

    Args:
        student: feature map s, [b, h, w, c]; use a connector to match the teacher's channels.
        teacher: feature map t, [b, h, w, c].
        mask: m, True where s is kept: positions [b, h, w] or channels [b, c].
        block: generation block G: kernel [3, 3, c, d], bias [d], kernel [3, 3, d, c], bias [c].

    Returns:
        Per-example loss, [b], summed over positions and channels.

    Compares: feature maps of equal size
    Extra: the generation block, usually a connector; `methods.mgd` trains both and draws the mask
    Source: Yang et al., Masked Generative Distillation, 2022, https://arxiv.org/abs/2205.01529
    Differs: the paper masks positions, the authors' classification code whole channels; both are available

    Example:
        >>> block = (jnp.zeros((3, 3, 2, 4)), jnp.zeros(4), jnp.zeros((3, 3, 4, 2)), jnp.ones(2))
        >>> mgd(jnp.ones((1, 2, 2, 2)), jnp.zeros((1, 2, 2, 2)), jnp.ones((1, 2, 2), bool), block)
        Array([8.], dtype=float32)
    """
    student, teacher, *parameters = at_least_float32(student, teacher, *block)
    kept = mask[..., None] if mask.ndim == 3 else mask[:, None, None, :]
    hidden = jax.nn.relu(_conv(jnp.where(kept, student, 0), *parameters[:2]))
    gap = teacher - _conv(hidden, *parameters[2:])
    return jnp.sum(gap * gap, (1, 2, 3))


def _conv(x, kernel, bias):
    y = convolve(x, kernel, precision="highest")
    return y + jnp.broadcast_to(bias, y.shape)
