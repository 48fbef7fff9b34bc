"""Channel-wise Pearson correlation of feature maps."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mmkd_jax.collectives import centered
from mmkd_jax.numeric import at_least_float32, distance, mean_square, rows_that_count
from mmkd_jax.validation import validated


@validated
def pearson(
    student: Float[Array, "b *n c"],
    teacher: Float[Array, "b *n c"],
    *,
    where: Bool[Array, " b"] | None = None,
    axis_name: str | None = None,
) -> Float[Array, " b"]:
    """PKD for object detectors: Pearson correlation, as MSE of channels standardized over batch and positions.

    Formula: (1 / 2) mean_ic (ŝ − t̂)²_ic, x̂ = (x − μ_c) / (σ_c + 1e-6); batch mean: 1 − ρ up to a factor (n − 1) / n

    Args:
        student: feature map s, [b, ..., c].
        teacher: feature map t, [b, ..., c].
        where: mask of valid rows, [b]; invalid rows are excluded from μ and σ.
        axis_name: mapped device axis, as in `jax.lax.psum`, inside `shard_map` or `pmap`; otherwise None.

    Returns:
        Per-example loss, [b]; the mean is one minus the correlation, averaged over channels. A constant channel is 0
        everywhere and gets zero gradient.

    Compares: feature maps of equal size, relations between examples
    Extra: usually a connector
    Source: Cao et al., PKD: General Distillation Framework for Object Detectors via Pearson Correlation Coefficient,
        2022, https://arxiv.org/abs/2207.02039
    Differs: the unbiased σ follows the authors' code, in which a constant channel, such as after a dead ReLU, gets a
        gradient of ~1e6

    Example:
        >>> x = jnp.array([[0.0, 1.0], [1.0, 3.0], [2.0, 1.0]])
        >>> bool((pearson(x, 2 * x + 1) < 1e-6).all())
        True
    """
    student, teacher = at_least_float32(student, teacher)
    mask = rows_that_count(student, where)

    def standardized(x):
        gap, square, n = centered(x.reshape(len(x), -1, x.shape[-1]), mask, axis_name)
        return gap / (distance(square / jnp.maximum(n - 1, 1)) + 1e-6)[None, None]

    return mean_square(standardized(student) - standardized(teacher)) / 2
