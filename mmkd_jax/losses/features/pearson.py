"""The correlation of feature maps, channel by channel."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mmkd_jax.losses.checked import checked
from mmkd_jax.losses.gather import centred
from mmkd_jax.losses.numeric import at_least_float32, distance, mean_square, rows_that_count


@checked
def pearson(
    student: Float[Array, "b *n c"],
    teacher: Float[Array, "b *n c"],
    *,
    where: Bool[Array, " b"] | None = None,
    axis: str | None = None,
) -> Float[Array, " b"]:
    """PKD for detectors: squared difference of channels that are standardised over batch and positions.

    Formula: (1 / 2) mean_ic (ŝ − t̂)²_ic, x̂ = (x − μ_c) / (σ_c + 1e-6); over the batch, 1 − ρ up to (n − 1) / n

    Args:
        student: feature map s, [b, ..., c].
        teacher: feature map t, [b, ..., c].
        where: rows that count, [b]; the others take no part in μ and σ.
        axis: the device axis in the per-device forms.

    Returns:
        Values [b]; their mean is one minus the correlation, averaged over the channels. A channel that does not vary
        is 0 everywhere, and has the gradient 0.

    Compares: feature maps of one size, relations of rows
    Extra: usually a connector
    Source: Cao et al., PKD: General Distillation Framework for Object Detectors via Pearson Correlation Coefficient,
        2022, https://arxiv.org/abs/2207.02039
    Differs: the authors' code takes σ without bias, which this follows; a channel that does not vary, such as one
        after a dead ReLU, gets a gradient of ~1e6 there

    Example:
        >>> x = jnp.array([[0.0, 1.0], [1.0, 3.0], [2.0, 1.0]])
        >>> bool((pearson(x, 2 * x + 1) < 1e-6).all())
        True
    """
    student, teacher = at_least_float32(student, teacher)
    mask = rows_that_count(student, where)

    def standardized(x):
        gap, square, n = centred(x.reshape(len(x), -1, x.shape[-1]), mask, axis)
        return gap / (distance(square / jnp.maximum(n - 1, 1)) + 1e-6)[None, None]

    return mean_square(standardized(student) - standardized(teacher)) / 2
