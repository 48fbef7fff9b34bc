"""Deep CORAL: correlation alignment."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mmkd_jax.losses.alignment._covariance import covariances
from mmkd_jax.numeric import at_least_float32, rows_that_count
from mmkd_jax.validation import validated


@validated
def coral(
    student: Float[Array, "b d"],
    teacher: Float[Array, "b d"],
    *,
    where: Bool[Array, " b"] | None = None,
    axis_name: str | None = None,
) -> Float[Array, ""]:
    """Deep CORAL (correlation alignment): squared distance between feature covariances.

    Formula: ‖C_s − C_t‖²_F / 4d², C the covariance over the batch, divided by n − 1

    Invariant to the means of both sides and to the pairing of their rows.

    Args:
        student: features s, [b, d].
        teacher: features t, [b, d].
        where: mask of valid rows, [b].
        axis_name: mapped device axis, as in `jax.lax.psum`, inside `shard_map` or `pmap`; otherwise None.

    Returns:
        Scalar loss of the batch. Constant channels, and batches of one row, get zero gradient.

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
    c_s, c_t, _ = covariances(student, teacher, rows_that_count(student, where), axis_name)
    gap = (c_s - c_t) / (2 * student.shape[1])
    return jnp.sum(gap * gap)
