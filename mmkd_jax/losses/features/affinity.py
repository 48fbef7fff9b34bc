"""Affinities between positions of a feature map."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from mmkd_jax.numeric import at_least_float32, distance, inner, unit
from mmkd_jax.validation import validated


@validated
def affinity(student: Float[Array, "b h w c"], teacher: Float[Array, "b h w k"]) -> Float[Array, " b"]:
    """Affinity distillation: L2 distance between the rows of the positions' cosine-similarity matrices.

    Formula: (1 / hw) Σ_i ‖A_s[i, :] − A_t[i, :]‖, A_ij = cos(x_i, x_j) between positions i and j

    Args:
        student: feature map [b, h, w, c].
        teacher: feature map [b, h, w, k].

    Returns:
        Per-example loss, [b].

    Compares: relations between positions of feature maps of equal size
    Extra: usually a connector
    Source: He et al., Knowledge Adaptation for Efficient Semantic Segmentation, 2019, https://arxiv.org/abs/1903.04688
    Differs: torchdistill multiplies positions within each channel, normalized over the map, and sums one norm per
        channel, which does not relate feature vectors

    Example:
        >>> affinity(jnp.array([[[[1.0, 0.0], [1.0, 1.0]]]]), jnp.array([[[[2.0, 0.0], [3.0, 3.0]]]])) < 1e-6
        Array([ True], dtype=bool)
    """
    gap = _gap(student, teacher)
    return jnp.mean(distance(jnp.sum(gap * gap, 2)), 1)


@validated
def pairwise_affinity(student: Float[Array, "b h w c"], teacher: Float[Array, "b h w k"]) -> Float[Array, " b"]:
    """Pairwise distillation of structured knowledge (SKD): MSE of the cosine similarities between all positions.

    Formula: (1 / (hw)²) Σ_ij (A_s[i, j] − A_t[i, j])², A_ij = cos(x_i, x_j) between positions i and j

    Args:
        student: feature map [b, h, w, c]; the paper pools patches of positions first.
        teacher: feature map [b, h, w, k].

    Returns:
        Per-example loss, [b].

    Compares: relations between positions of feature maps of equal size
    Extra: none
    Source: Liu et al., Structured Knowledge Distillation for Semantic Segmentation, 2019,
        https://arxiv.org/abs/1903.04197

    Example:
        >>> pairwise_affinity(jnp.array([[[[1.0, 0.0], [0.0, 1.0]]]]), jnp.array([[[[2.0], [3.0]]]]))
        Array([0.5], dtype=float32)
    """
    gap = _gap(student, teacher)
    return jnp.mean(gap * gap, (1, 2))


def _gap(student, teacher):
    """A_s − A_t."""
    student, teacher = at_least_float32(student, teacher)
    s, t = (unit(x.reshape(len(x), -1, x.shape[-1])) for x in (student, teacher))
    return inner(s, s) - inner(t, t)
