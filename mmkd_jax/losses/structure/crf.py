"""Linear-chain conditional random fields, as pure functions of emissions, transitions and a mask of tokens.

The tokens under the mask make the chain, whatever stands between them. A score of −inf forbids a label, or a pair of
labels. A model adds what it gives a chain's start and end to the emissions of the first and the last token.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Integer

from mmkd_jax.losses.numeric import log_softmax

LOW = -1e30  # of a forbidden score: sums of several stay floats


def scores(
    emissions: Float[Array, "b l c"], transitions: Float[Array, "c c"], mask: Bool[Array, "b l"] | None
) -> tuple[Float[Array, "b l c"], Float[Array, "c c"], Bool[Array, "b l"]]:
    """All of them finite, and a mask."""
    mask = jnp.ones(emissions.shape[:2], bool) if mask is None else mask
    return jnp.maximum(emissions, LOW), jnp.maximum(transitions, LOW), mask


def log_partition(
    emissions: Float[Array, "b l c"], transitions: Float[Array, "c c"], mask: Bool[Array, "b l"] | None = None
) -> Float[Array, " b"]:
    """log Z: of the sum over all labellings of exp(score).

    Args:
        emissions: e, [b, l, c].
        transitions: from a label to the next, [c, c].
        mask: tokens that count; None is all.

    Example:
        >>> log_partition(jnp.zeros((1, 3, 2)), jnp.zeros((2, 2))).round(4)  # log 2³
        Array([2.0794], dtype=float32)
    """
    alphas, _ = _forward(*scores(emissions, transitions, mask))
    return jax.nn.logsumexp(alphas, -1)


def score(
    emissions: Float[Array, "b l c"],
    transitions: Float[Array, "c c"],
    labels: Integer[Array, "b l"],
    mask: Bool[Array, "b l"] | None = None,
) -> Float[Array, " b"]:
    """Of one labelling: the sum of its emissions, and of the transitions between neighbours.

    Example:
        >>> score(jnp.array([[[0.0, 1.0], [2.0, 0.0]]]), jnp.array([[0.0, 0.0], [5.0, 0.0]]), jnp.array([[1, 0]]))
        Array([8.], dtype=float32)
    """
    emissions, transitions, mask = scores(emissions, transitions, mask)

    def add(carry, now):
        before, begun = carry
        label, own, here = now
        step = own + jnp.where(begun, transitions[before, label], 0)
        return (jnp.where(here, label, before), begun | here), jnp.where(here, step, 0)

    own = jnp.take_along_axis(emissions, labels[..., None], -1)[..., 0]
    start = (jnp.zeros_like(labels[:, 0]), jnp.zeros_like(mask[:, 0]))
    _, steps = jax.lax.scan(add, start, (labels.T, own.T, mask.T))
    return jnp.sum(steps, 0)


def log_marginals(
    emissions: Float[Array, "b l c"], transitions: Float[Array, "c c"], mask: Bool[Array, "b l"] | None = None
) -> Float[Array, "b l c"]:
    """log P(y_i = c | x) of each token under the mask, by the forward and the backward recursion.

    Args:
        emissions: e, [b, l, c].
        transitions: from a label to the next, [c, c].
        mask: tokens that count; None is all. What stands at the others is a distribution, but of nothing.

    Returns:
        Log-probabilities; −inf where a label is forbidden.

    Example:
        >>> jnp.exp(log_marginals(jnp.zeros((1, 2, 2)), jnp.zeros((2, 2)))).tolist()
        [[[0.5, 0.5], [0.5, 0.5]]]
    """
    emissions, transitions, mask = scores(emissions, transitions, mask)
    _, alphas = _forward(emissions, transitions, mask)

    def back(beta, now):
        own, here = now
        after = jax.nn.logsumexp(transitions[None] + (own + beta)[:, None, :], -1)
        return jnp.where(here[:, None], after, beta), beta

    start = jnp.zeros_like(emissions[:, 0])
    _, betas = jax.lax.scan(back, start, (jnp.swapaxes(emissions, 0, 1), mask.T), reverse=True)
    both = jnp.swapaxes(alphas + betas, 0, 1)
    forbidden = both < LOW / 2
    return log_softmax(jnp.where(forbidden, -jnp.inf, both))


def _forward(emissions, transitions, mask):
    """log-sums over the labellings up to each token, the last first by itself: [b, c], [l, b, c]."""

    def add(carry, now):
        alpha, begun = carry
        own, here = now
        before = jax.nn.logsumexp(alpha[:, :, None] + transitions[None], 1)
        new = own + jnp.where(begun[:, None], before, 0)
        alpha = jnp.where(here[:, None], new, alpha)
        return (alpha, begun | here), alpha

    start = (jnp.zeros_like(emissions[:, 0]), jnp.zeros_like(mask[:, 0]))
    (last, _), alphas = jax.lax.scan(add, start, (jnp.swapaxes(emissions, 0, 1), mask.T))
    return last, alphas
