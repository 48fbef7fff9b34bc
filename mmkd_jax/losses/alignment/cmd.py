"""Central moment discrepancy."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mmkd_jax.losses.checked import checked
from mmkd_jax.losses.gather import summed
from mmkd_jax.losses.number import Positive
from mmkd_jax.losses.numeric import at_least_float32, distance, like, rows_that_count, zero_rows


@checked
def cmd(
    student: Float[Array, "b d"],
    teacher: Float[Array, "b d"],
    *,
    moments: int = 5,
    span: Positive = 1.0,
    where: Bool[Array, " b"] | None = None,
    axis: str | None = None,
) -> Float[Array, ""]:
    """Central moment discrepancy (CMD): the means and the central moments of every channel are to be one.

    Formula: ‖E s − E t‖ / |b − a| + Σ_{k=2…K} ‖c_k(s) − c_k(t)‖ / |b − a|^k, c_k(x) = E (x − E x)^k by channel

    Args:
        student: features s, [b, d], all between a and b, such as after tanh or a sigmoid.
        teacher: features t, [b, d].
        moments: K.
        span: |b − a|.
        where: rows that count, [b].
        axis: the device axis in the per-device forms.

    Returns:
        One value for the batch. Where a moment of both sides is one, it has the gradient 0. The k-th power of
        features that are not bounded is large: give their span.

    Compares: features of one width, by their distribution
    Extra: usually a connector
    Source: Zellinger et al., Central Moment Discrepancy (CMD) for Domain-Invariant Representation Learning, 2017,
        https://arxiv.org/abs/1702.08811
    Differs: the authors' code leaves |b − a| out, as the default does

    Example:
        >>> x = jnp.array([[0.0, 0.5], [0.5, 1.0]])
        >>> cmd(x, x), cmd(x, x + jnp.array([[3.0, 4.0]]))
        (Array(0., dtype=float32), Array(5., dtype=float32))
    """
    student, teacher = at_least_float32(student, teacher)
    mask = rows_that_count(student, where)
    n = jnp.maximum(summed(jnp.sum(mask), axis), 1).astype(student.dtype)

    def mean(x):
        return summed(jnp.sum(zero_rows(x, mask), 0), axis) / n

    def each(x):
        x = zero_rows(x, mask) / like(span, x)
        first = mean(x)
        return [first, *(mean((x - first[None]) ** k) for k in range(2, moments + 1))]

    return sum((_norm(a - b) for a, b in zip(each(student), each(teacher), strict=True)), start=jnp.zeros((), n.dtype))


def _norm(x: Float[Array, " d"]) -> Float[Array, ""]:
    """‖x‖, also where its square is no float; with gradient 0 at 0."""
    top = jax.lax.stop_gradient(jnp.max(jnp.abs(x), initial=0))
    top = jnp.where(top > 0, top, 1)
    return top * distance(jnp.sum((x / top) ** 2))
