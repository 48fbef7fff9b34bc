"""Central moment discrepancy (CMD)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mmkd_jax.collectives import summed
from mmkd_jax.numeric import at_least_float32, distance, like, rows_that_count, zero_rows
from mmkd_jax.typing import Count, Positive
from mmkd_jax.validation import validated


@validated
def cmd(
    student: Float[Array, "b d"],
    teacher: Float[Array, "b d"],
    *,
    moments: Count = 5,
    span: Positive = 1.0,
    where: Bool[Array, " b"] | None = None,
    axis_name: str | None = None,
) -> Float[Array, ""]:
    """Central moment discrepancy (CMD): distance between the means and central moments of each channel.

    Formula: ‖E s − E t‖ / |b − a| + Σ_{k=2…K} ‖c_k(s) − c_k(t)‖ / |b − a|^k, c_k(x) = E (x − E x)^k by channel

    Args:
        student: features s, [b, d], bounded by a and b, such as after tanh or sigmoid.
        teacher: features t, [b, d].
        moments: K, the highest moment.
        span: |b − a|, the range of the features.
        where: mask of valid rows, [b].
        axis_name: mapped device axis, as in `jax.lax.psum`, inside `shard_map` or `pmap`; otherwise None.

    Returns:
        Scalar loss of the batch. A moment that is equal on both sides gets zero gradient. For unbounded features, the
        k-th power is large: set `span` accordingly.

    Compares: features of one width, by their distribution
    Extra: usually a connector
    Source: Zellinger et al., Central Moment Discrepancy (CMD) for Domain-Invariant Representation Learning, 2017,
        https://arxiv.org/abs/1702.08811
    Differs: the authors' code omits |b − a|, which is the default here

    Example:
        >>> x = jnp.array([[0.0, 0.5], [0.5, 1.0]])
        >>> cmd(x, x), cmd(x, x + jnp.array([[3.0, 4.0]]))
        (Array(0., dtype=float32), Array(5., dtype=float32))
    """
    student, teacher = at_least_float32(student, teacher)
    mask = rows_that_count(student, where)
    n = jnp.maximum(summed(jnp.sum(mask), axis_name), 1).astype(student.dtype)

    def mean(x):
        return summed(jnp.sum(zero_rows(x, mask), 0), axis_name) / n

    def each(x):
        x = zero_rows(x, mask) / like(span, x)
        first = mean(x)
        return [first, *(mean((x - first[None]) ** k) for k in range(2, moments + 1))]

    return sum((_norm(a - b) for a, b in zip(each(student), each(teacher), strict=True)), start=jnp.zeros((), n.dtype))


def _norm(x: Float[Array, " d"]) -> Float[Array, ""]:
    """‖x‖, without overflow or underflow of the square; zero gradient at 0."""
    top = jax.lax.stop_gradient(jnp.max(jnp.abs(x), initial=0))
    top = jnp.where(top > 0, top, 1)
    return top * distance(jnp.sum((x / top) ** 2))
