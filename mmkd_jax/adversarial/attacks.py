"""Gradient-based adversarial attacks, as pure functions of (function, input)."""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mmkd_jax.numeric import unit
from mmkd_jax.typing import NotNegative
from mmkd_jax.validation import validated


@validated
def pgd(
    function: Callable[[Float[Array, "b ..."]], Float[Array, " b"]],
    x: Float[Array, "b ..."],
    *,
    eps: NotNegative,
    step_size: NotNegative,
    steps: int,
    norm: Literal["linf", "l2"] = "linf",
    start: Float[Array, "b ..."] | None = None,
    low: float | None = None,
    high: float | None = None,
) -> Float[Array, "b ..."]:
    """Projected gradient descent (PGD) attack: maximize a function of the input within a ball around x.

    Formula: δ ← Π_ε(δ + a · sign ∇f) (linf) or Π_ε(δ + a · ∇f / ‖∇f‖) (l2); x + δ clipped to [low, high]

    Args:
        function: input -> one value per row, to be maximized; rows are attacked independently.
        x: the clean input, [b, ...].
        eps: radius of the ball, in units of x.
        step_size: a, in units of x.
        steps: number of steps.
        norm: norm of the ball, "linf" or "l2".
        start: initial δ, [b, ...]; zeros by default.
        low: lower bound of the input; None is unbounded. Values of x already below it may only increase.
        high: upper bound of the input; None is unbounded.

    Returns:
        The attacked input, always within the ball; no gradient flows through it.

    Topic: adversarial
    Compares: nothing; maximizes a given function of the input
    Extra: `steps` forward and backward passes of the function
    Source: Madry et al., Towards Deep Learning Models Resistant to Adversarial Attacks, 2018,
        https://arxiv.org/abs/1706.06083

    Example:
        >>> pgd(lambda x: x.sum(-1), jnp.zeros((1, 2)), eps=0.5, step_size=0.25, steps=4)
        Array([[0.5, 0.5]], dtype=float32)
    """
    eps, step_size = jnp.asarray(eps, x.dtype), jnp.asarray(step_size, x.dtype)

    def along(d):  # avoids underflow in the squares of a confident row's gradient
        return unit(d.reshape(len(d), -1).astype(jnp.promote_types(d.dtype, jnp.float32))).reshape(d.shape)

    def within(d):
        wide = d.reshape(len(d), -1).astype(jnp.promote_types(d.dtype, jnp.float32))
        size = jnp.sum(wide * unit(wide), -1).reshape(-1, *[1] * (d.ndim - 1))
        return jnp.where(size > eps, (eps * along(d)).astype(d.dtype), d)

    def project(d):
        d = jnp.clip(d, -eps, eps) if norm == "linf" else within(d)
        least = None if low is None else jnp.minimum(x, low)  # values already out of range stay where they are
        most = None if high is None else jnp.maximum(x, high)
        return d if least is None and most is None else jnp.clip(x + d, least, most) - x

    def climb(_, d):
        gradient = jax.grad(lambda d: jnp.sum(function(x + d)))(d)
        direction = jnp.sign(gradient) if norm == "linf" else along(gradient).astype(d.dtype)
        return project(d + step_size * direction)

    first = project(jnp.zeros_like(x) if start is None else start.astype(x.dtype))
    return jax.lax.stop_gradient(x + jax.lax.fori_loop(0, steps, climb, first))


@validated
def fgsm(
    function: Callable[[Float[Array, "b ..."]], Float[Array, " b"]],
    x: Float[Array, "b ..."],
    *,
    eps: NotNegative,
    low: float | None = None,
    high: float | None = None,
) -> Float[Array, "b ..."]:
    """Fast gradient sign method (FGSM): one step to the edge of the ball.

    Formula: x + ε sign ∇f(x), clipped to [low, high]

    Args:
        function: input -> one value per row, to be maximized.
        x: the clean input, [b, ...].
        eps: radius of the ball, in units of x.
        low: lower bound of the input; None is unbounded.
        high: upper bound of the input; None is unbounded.

    Returns:
        The attacked input; no gradient flows through it.

    Topic: adversarial
    Compares: nothing; maximizes a given function of the input
    Extra: one forward and backward pass of the function
    Source: Goodfellow et al., Explaining and Harnessing Adversarial Examples, 2015, https://arxiv.org/abs/1412.6572

    Example:
        >>> fgsm(lambda x: -x.sum(-1), jnp.zeros((1, 2)), eps=0.5, low=-0.25)
        Array([[-0.25, -0.25]], dtype=float32)
    """
    return pgd(function, x, eps=eps, step_size=eps, steps=1, low=low, high=high)


def row_noise(
    key: Array, example_id: Int[Array, " b"], shape: tuple[int, ...], uniform: bool = False
) -> Float[Array, "b ..."]:
    """Noise keyed by example ID, not by position in the batch: standard normal, or uniform in [−1, 1].

    Args:
        key: PRNG key of the step.
        example_id: example IDs, [b].
        shape: shape of one row.
        uniform: draw uniform instead of normal noise.

    Example:
        >>> row_noise(jax.random.key(0), jnp.array([3, 4]), (2, 2)).shape
        (2, 2, 2)
    """

    def draw(i):
        row_key = jax.random.fold_in(key, i)
        return jax.random.uniform(row_key, shape, minval=-1, maxval=1) if uniform else jax.random.normal(row_key, shape)

    return jax.vmap(draw)(example_id)
