"""Numerically stable building blocks shared by the losses."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Num, Shaped

from mmkd_jax.typing import Scalar


def at_least_float32(*arrays: Shaped[Array, "..."]) -> tuple[Array, ...]:
    """Cast arrays to a common floating dtype, at least float32."""
    with jax.numpy_dtype_promotion("standard"):  # so that bfloat16 is promoted in strict mode, too
        dtype = jnp.result_type(jnp.float32, *(x.dtype for x in arrays))
    return tuple(x.astype(dtype) for x in arrays)


def like(number: Scalar, x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Cast a hyperparameter to x's dtype; per-example values broadcast over the trailing axes."""
    value = jnp.asarray(number, x.dtype)
    return value.reshape(value.shape + (1,) * (x.ndim - value.ndim)) if value.ndim else value


def log_softmax(x: Float[Array, "*n c"]) -> Float[Array, "*n c"]:
    """Log-softmax; classes at −inf stay at −inf, even if all are, without NaN in value or gradient."""
    has_class = jnp.any(x != -jnp.inf, -1, keepdims=True)  # NaN stays NaN
    return jnp.where(has_class, jax.nn.log_softmax(jnp.where(has_class, x, 0), -1), -jnp.inf)


def softened(x: Float[Array, "*n c"], temperature: Scalar) -> Float[Array, "*n c"]:
    """Temperature-scaled logits x / T; classes at −inf stay at −inf and contribute no gradient, not even to T."""
    gone = x == -jnp.inf
    return jnp.where(gone, -jnp.inf, jnp.where(gone, 0, x) / like(temperature, x))


def squared(temperature: Scalar, x: Float[Array, "*n c"]) -> Float[Array, "..."]:
    """Return T², shaped to scale values over x's leading axes."""
    t = like(temperature, x[..., 0])
    return t * t


def finite(logp: Float[Array, "..."]) -> Float[Array, "..."]:
    """Replace −inf by 0."""
    return jnp.where(logp == -jnp.inf, 0, logp)


def expected(p: Float[Array, "*n c"], value: Float[Array, "*n c"]) -> Float[Array, "*n"]:
    """Expected value Σ_c p_c value_c; classes with p = 0 contribute 0, even if their value is infinite or NaN.

    A NaN in p is kept.
    """
    counts = p != 0
    return jnp.sum(jnp.where(counts, p * jnp.where(counts, value, 0), 0), -1)


def log_mixture(logp: Float[Array, "*n c"], logq: Float[Array, "*n c"], share: Scalar) -> Float[Array, "*n c"]:
    """Log of the mixture share · p + (1 − share) · q, scaled so that small probabilities keep their gradients.

    Where the mixture has no mass, the result is finite but meaningless; expectations ignore it.
    """
    weight = like(share, logp)
    top = jax.lax.stop_gradient(finite(jnp.maximum(logp, logq)))
    m = weight * jnp.exp(logp - top) + (1 - weight) * jnp.exp(logq - top)
    return top + jnp.log(jnp.where(m > 0, m, 1))


def cross(p: Float[Array, "*n c"], logq: Float[Array, "*n c"]) -> Float[Array, "*n"]:
    """Cross-entropy −Σ_c p_c log q_c; +inf where only q is 0, never NaN."""
    impossible = jnp.any((p > 0) & (logq == -jnp.inf), -1)
    return jnp.where(impossible, jnp.inf, -jnp.sum(p * finite(logq), -1))


def divergence(logp: Float[Array, "*n c"], logq: Float[Array, "*n c"]) -> Float[Array, "*n"]:
    """KL divergence KL(p ‖ q); +inf where only q is 0, never NaN."""
    p = jnp.exp(logp)
    value = expected(p, finite(logp) - finite(logq))
    impossible = jnp.any((p > 0) & (logq == -jnp.inf), -1)
    return jnp.where(impossible, jnp.inf, value)


def pearson(
    a: Float[Array, "..."], b: Float[Array, "..."], where: Bool[Array, "..."], over: int, *, clamped: bool, eps: float
) -> Float[Array, "..."]:
    """Pearson correlation along an axis, over the entries under a mask; 0, with gradient 0, if a or b is constant."""
    count = jnp.maximum(jnp.sum(where, over, keepdims=True).astype(a.dtype), 1)

    def centered(x):
        x = jnp.where(where, x, 0)
        return varying(jnp.where(where, x - jnp.sum(x, over, keepdims=True) / count, 0), x, over)

    a, b = centered(a), centered(b)
    size, other = (distance(jnp.sum(x * x, over)) for x in (a, b))
    norm = jnp.maximum(size, eps) * jnp.maximum(other, eps) if clamped else size * other + eps
    return jnp.sum(a * b, over) / norm


def weighed(weight: Float[Array, "..."], value: Float[Array, "..."]) -> Float[Array, "..."]:
    """Multiply weight · value, with 0 · inf = 0."""
    zero = (weight == 0) & jnp.isinf(value)
    return jnp.where(zero, 0, weight * jnp.where(zero, 0, value))


def inner(a: Float[Array, "*b i d"], b: Float[Array, "*b j d"]) -> Float[Array, "*b i j"]:
    """Inner products ⟨a_i, b_j⟩ in full precision; by default, accelerators round the operands of float32 products."""
    return jnp.matmul(a, jnp.swapaxes(b, -1, -2), precision="highest")


def unit(x: Float[Array, "*n d"]) -> Float[Array, "*n d"]:
    """Normalize rows to unit length, x / ‖x‖; zero rows stay zero, with gradient 0."""
    top = jax.lax.stop_gradient(jnp.max(jnp.abs(x), -1, keepdims=True, initial=0))
    zero = top == 0
    x = x / jnp.where(zero, 1, top)  # avoids underflow and overflow in the squares
    square = jnp.sum(x * x, -1, keepdims=True)
    return jnp.where(zero, 0, x * jax.lax.rsqrt(jnp.where(zero, 1, square)))


def distance(square: Float[Array, "..."]) -> Float[Array, "..."]:
    """Square root, with gradient 0 at 0."""
    zero = square <= 0
    return jnp.where(zero, 0, jnp.sqrt(jnp.where(zero, 1, square)))


def top_class(logits: Float[Array | np.ndarray, "*n c"]) -> Int[Array, "*n"]:
    """Index of the largest logit; −1, which equals no label, where a logit is NaN or no logit is above −inf."""
    none = jnp.any(jnp.isnan(logits), -1) | (jnp.max(logits, -1) == -jnp.inf)
    return jnp.where(none, -1, jnp.argmax(logits, -1))


def largest(x: Float[Array, "*n d"], count: int) -> Bool[Array, "*n d"]:
    """Mask of the largest entries of each row, as many as `count`; of equal ones, the first.

    Example:
        >>> largest(jnp.array([1.0, 3.0, 3.0, 3.0]), 2).tolist()
        [False, True, True, False]
    """
    before = jnp.tri(x.shape[-1], k=-1, dtype=bool).reshape((1,) * (x.ndim - 1) + (x.shape[-1],) * 2)
    this, other = x[..., :, None], x[..., None, :]
    return jnp.sum((other > this) | ((other == this) & before), -1) < count


def mean_square(x: Float[Array, "b ..."]) -> Float[Array, " b"]:
    """Mean of squares over all axes but the first."""
    return jnp.mean(x * x, tuple(range(1, x.ndim)))


def mean_of_last(x: Float[Array, "b ..."]) -> Float[Array, "b ..."]:
    """Mean over the last axis; arrays with one number per example are returned unchanged."""
    return jnp.mean(x, -1) if x.ndim > 1 else x


def varying(gap: Float[Array, "..."], x: Float[Array, "..."], over: int) -> Float[Array, "..."]:
    """Deviations from the mean along an axis; exactly 0, without gradient, where they are only rounding noise."""
    spread, size = (jnp.sum(v * v, over, keepdims=True) for v in (gap, x))
    return jnp.where(spread <= (8 * float(jnp.finfo(x.dtype).eps)) ** 2 * size, 0, gap)


def keep_nan(values: Float[Array, "..."], *inputs: Float[Array, "..."]) -> Float[Array, "..."]:
    """Return values that are NaN where an input is: for losses that compare, as `NaN > 0` is merely False.

    Args:
        values: one value per row, or a scalar.
        inputs: arrays whose leading axes are those of the values.
    """
    for x in inputs:
        values = jnp.where(jnp.any(jnp.isnan(x), tuple(range(values.ndim, x.ndim))), jnp.nan, values)
    return values


def smooth_l1(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Smooth L1: the Huber function with δ = 1."""
    size = jnp.abs(x)
    return jnp.where(size < 1, x * x / 2, size - 0.5)


def rows_that_count(x: Num[Array, "b ..."], where: Bool[Array, " b"] | None) -> Bool[Array, " b"]:
    """Return the mask of valid rows; None means all."""
    return jnp.ones(x.shape[:1], bool) if where is None else where


def zero_rows(x: Float[Array, "b ..."], where: Bool[Array, " b"]) -> Float[Array, "b ..."]:
    """Zero the invalid rows, so that these affect neither the value nor the gradient."""
    return jnp.where(where.reshape(-1, *[1] * (x.ndim - 1)), x, 0)
