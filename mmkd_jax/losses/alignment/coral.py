"""Correlation alignment."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mmkd_jax.losses.alignment.covariance import covariances
from mmkd_jax.losses.checked import checked
from mmkd_jax.losses.numeric import at_least_float32, rows_that_count


@checked
def coral(
    student: Float[Array, "b d"],
    teacher: Float[Array, "b d"],
    *,
    where: Bool[Array, " b"] | None = None,
    axis: str | None = None,
) -> Float[Array, ""]:
    """Correlation alignment (Deep CORAL): the covariances of both sides are to be one.

    Formula: ‖C_s − C_t‖²_F / 4d², C the covariance over the batch, of n − 1

    The means of the two sides, and which rows belong together, do not matter.

    Args:
        student: features s, [b, d].
        teacher: features t, [b, d].
        where: rows that count, [b].
        axis: the device axis in the per-device forms.

    Returns:
        One value for the batch. A channel that does not vary has the gradient 0, and so has a batch of one row.

    Compares: features of one width, by their covariance
    Extra: usually a connector
    Source: Sun and Saenko, Deep CORAL: Correlation Alignment for Deep Domain Adaptation, 2016,
        https://arxiv.org/abs/1607.01719

    Example:
        >>> x = jnp.array([[0.0, 1.0], [1.0, 3.0], [2.0, 2.0]])
        >>> coral(x, x + 3), bool(coral(x, 2 * x) > 0)
        (Array(0., dtype=float32), True)
    """
    student, teacher = at_least_float32(student, teacher)
    c_s, c_t, _ = covariances(student, teacher, rows_that_count(student, where), axis)
    gap = (c_s - c_t) / (2 * student.shape[1])
    return jnp.sum(gap * gap)
