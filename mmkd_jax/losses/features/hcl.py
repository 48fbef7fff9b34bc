"""Hierarchical context loss of ReviewKD."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from mmkd_jax.losses._layers import beside
from mmkd_jax.losses._pool import average_pool
from mmkd_jax.numeric import mean_square
from mmkd_jax.validation import validated

Maps = tuple[Float[Array, "b _ _ _"], ...]


@validated
def hcl(student: Maps, teacher: Maps) -> Float[Array, " b"]:
    """Hierarchical context loss (HCL) of ReviewKD: MSE of feature maps, and of their 4×4, 2×2 and 1×1 poolings.

    Formula: Σ_stages Σ_l w_l mean(P_l s − P_l t)² / Σ_l w_l; P_l pools to l × l for l = 4, 2, 1 below the map's size,
    w = 1 for the map itself, then 1/2, 1/4, 1/8

    Args:
        student: feature maps s of one or more stages, each [b, h, w, c].
        teacher: feature maps t of the same shapes.

    Returns:
        Per-example loss, [b], summed over the stages. At level l, an axis shorter than l keeps its size.

    Compares: feature maps of several stages
    Extra: usually a connector
    Source: Chen et al., Distilling Knowledge via Knowledge Review, 2021, https://arxiv.org/abs/2104.09044

    Example:
        >>> hcl((2 * jnp.ones((1, 8, 8, 3)),), (jnp.ones((1, 8, 8, 3)),))
        Array([1.], dtype=float32)
    """
    stages = [_context(s - t) for s, t in beside("hcl", student, teacher, alike=True)]
    return jnp.sum(jnp.stack(stages), 0)


def _context(gap: Float[Array, "b h w c"]) -> Float[Array, " b"]:
    """Loss of one stage. Pooling is linear, so pooling the difference equals differencing the pooled maps."""
    height, width = gap.shape[1:3]
    levels = [(height, width)] + [(min(n, height), min(n, width)) for n in (4, 2, 1) if n < max(height, width)]
    weights = [0.5**i for i in range(len(levels))]
    values = [w * mean_square(average_pool(gap, size)) for w, size in zip(weights, levels, strict=True)]
    return jnp.sum(jnp.stack(values), 0) / sum(weights)
