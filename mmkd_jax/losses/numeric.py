"""Arithmetic that stays finite: the pieces that several losses share."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Num, Shaped

from mmkd_jax.losses.number import Number


def at_least_float32(*arrays: Shaped[Array, "..."]) -> tuple[Array, ...]:
    """The arrays in one floating dtype, float32 or more."""
    with jax.numpy_dtype_promotion("standard"):  # asked for here, so that bfloat16 passes in strict mode, too
        dtype = jnp.result_type(jnp.float32, *(x.dtype for x in arrays))
    return tuple(x.astype(dtype) for x in arrays)


def like(number: Number, x: Float[Array, "..."]) -> Float[Array, "..."]:
    """A hyperparameter in x's dtype; one per example is broadcast over the trailing axes."""
    value = jnp.asarray(number, x.dtype)
    return value.reshape(value.shape + (1,) * (x.ndim - value.ndim)) if value.ndim else value


def log_softmax(x: Float[Array, "*n c"]) -> Float[Array, "*n c"]:
    """Log-probabilities; classes at −inf stay there, even if all are, without a NaN in value or gradient."""
    some = jnp.any(x > -jnp.inf, -1, keepdims=True)
    return jnp.where(some, jax.nn.log_softmax(jnp.where(some, x, 0), -1), -jnp.inf)


def softened(x: Float[Array, "*n c"], temperature: Number) -> Float[Array, "*n c"]:
    """x / T; classes at −inf stay there and reach no gradient, not even T's."""
    gone = x == -jnp.inf
    return jnp.where(gone, -jnp.inf, jnp.where(gone, 0, x) / like(temperature, x))


def squared(temperature: Number, x: Float[Array, "*n c"]) -> Float[Array, "..."]:
    """T² for values of x's leading axes."""
    t = like(temperature, x[..., 0])
    return t * t


def finite(logp: Float[Array, "..."]) -> Float[Array, "..."]:
    """0 in the place of −inf."""
    return jnp.where(logp == -jnp.inf, 0, logp)


def expected(p: Float[Array, "*n c"], value: Float[Array, "*n c"]) -> Float[Array, "*n"]:
    """Σ_c p_c value_c, where classes with p = 0 give 0 whatever their value."""
    return jnp.sum(jnp.where(p > 0, p * jnp.where(p > 0, value, 0), 0), -1)


def log_mixture(logp: Float[Array, "*n c"], logq: Float[Array, "*n c"], share: Number) -> Float[Array, "*n c"]:
    """log(share · p + (1 − share) · q), relative to the larger: small probabilities keep their derivatives.

    Where the mixture has no mass it is finite, whatever it is: nothing is expected there.
    """
    part = like(share, logp)
    top = jax.lax.stop_gradient(finite(jnp.maximum(logp, logq)))
    m = part * jnp.exp(logp - top) + (1 - part) * jnp.exp(logq - top)
    return top + jnp.log(jnp.where(m > 0, m, 1))


def cross(p: Float[Array, "*n c"], logq: Float[Array, "*n c"]) -> Float[Array, "*n"]:
    """−Σ_c p_c log q_c; +inf where only q is 0, and no NaN."""
    impossible = jnp.any((p > 0) & (logq == -jnp.inf), -1)
    return jnp.where(impossible, jnp.inf, -jnp.sum(p * finite(logq), -1))


def divergence(logp: Float[Array, "*n c"], logq: Float[Array, "*n c"]) -> Float[Array, "*n"]:
    """KL(p ‖ q); +inf where only q is 0, and no NaN."""
    p = jnp.exp(logp)
    value = expected(p, finite(logp) - finite(logq))
    impossible = jnp.any((p > 0) & (logq == -jnp.inf), -1)
    return jnp.where(impossible, jnp.inf, value)


def pearson(
    a: Float[Array, "..."], b: Float[Array, "..."], there: Bool[Array, "..."], over: int, *, clamped: bool, eps: float
) -> Float[Array, "..."]:
    """Correlation along one axis of the entries that are there; 0, with gradient 0, where one of them does not vary."""
    count = jnp.maximum(jnp.sum(there, over, keepdims=True).astype(a.dtype), 1)

    def centred(x):
        x = jnp.where(there, x, 0)
        return varying(jnp.where(there, x - jnp.sum(x, over, keepdims=True) / count, 0), x, over)

    a, b = centred(a), centred(b)
    size, other = (distance(jnp.sum(x * x, over)) for x in (a, b))
    norm = jnp.maximum(size, eps) * jnp.maximum(other, eps) if clamped else size * other + eps
    return jnp.sum(a * b, over) / norm


def weighed(weight: Float[Array, "..."], value: Float[Array, "..."]) -> Float[Array, "..."]:
    """weight · value, where nothing of something infinite is nothing."""
    nothing = (weight == 0) & jnp.isinf(value)
    return jnp.where(nothing, 0, weight * jnp.where(nothing, 0, value))


def inner(a: Float[Array, "*b i d"], b: Float[Array, "*b j d"]) -> Float[Array, "*b i j"]:
    """⟨a_i, b_j⟩ in full precision: by default, accelerators round the factors of a float32 product."""
    return jnp.matmul(a, jnp.swapaxes(b, -1, -2), precision="highest")


def unit(x: Float[Array, "*n d"]) -> Float[Array, "*n d"]:
    """x / ‖x‖; a zero row stays zero and gets the gradient 0."""
    top = jax.lax.stop_gradient(jnp.max(jnp.abs(x), -1, keepdims=True, initial=0))
    zero = top == 0
    x = x / jnp.where(zero, 1, top)  # squares of tiny or huge entries stay inside the floats
    square = jnp.sum(x * x, -1, keepdims=True)
    return jnp.where(zero, 0, x * jax.lax.rsqrt(jnp.where(zero, 1, square)))


def distance(square: Float[Array, "..."]) -> Float[Array, "..."]:
    """The square root, with gradient 0 at 0."""
    zero = square <= 0
    return jnp.where(zero, 0, jnp.sqrt(jnp.where(zero, 1, square)))


def mean_square(x: Float[Array, "b ..."]) -> Float[Array, " b"]:
    """The mean of squares over all axes but the first."""
    return jnp.mean(x * x, tuple(range(1, x.ndim)))


def mean_of_last(x: Float[Array, "b ..."]) -> Float[Array, "b ..."]:
    """The mean over the last axis; of one number per example, the number."""
    return jnp.mean(x, -1) if x.ndim > 1 else x


def varying(gap: Float[Array, "..."], x: Float[Array, "..."], over: int) -> Float[Array, "..."]:
    """The differences of x to its mean along an axis; exactly 0, without gradient, where they are rounding noise."""
    spread, size = (jnp.sum(v * v, over, keepdims=True) for v in (gap, x))
    return jnp.where(spread <= (8 * float(jnp.finfo(x.dtype).eps)) ** 2 * size, 0, gap)


def smooth_l1(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Huber's function with δ = 1."""
    size = jnp.abs(x)
    return jnp.where(size < 1, x * x / 2, size - 0.5)


def rows_that_count(x: Num[Array, "b ..."], where: Bool[Array, " b"] | None) -> Bool[Array, " b"]:
    """The mask, or all rows."""
    return jnp.ones(x.shape[:1], bool) if where is None else where


def zero_rows(x: Float[Array, "b ..."], where: Bool[Array, " b"]) -> Float[Array, "b ..."]:
    """Zeros in the rows that do not count, so that whatever stands there reaches neither value nor gradient."""
    return jnp.where(where.reshape(-1, *[1] * (x.ndim - 1)), x, 0)
