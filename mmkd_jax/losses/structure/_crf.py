"""Linear-chain conditional random fields, as pure functions of emissions, transitions and a token mask.

The chain consists of the tokens under the mask; tokens between them are skipped. A score of −inf forbids a label, or a
pair of labels. Models with start and end scores add them to the emissions of the first and the last token.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Integer

from mmkd_jax.numeric import log_softmax

LOW = -1e30  # score of a forbidden label; sums of several stay finite


def scores(
    emissions: Float[Array, "b l c"], transitions: Float[Array, "c c"], mask: Bool[Array, "b l"] | None
) -> tuple[Float[Array, "b l c"], Float[Array, "c c"], Bool[Array, "b l"]]:
    """Clip scores to finite values, and fill in the default mask."""
    mask = jnp.ones(emissions.shape[:2], bool) if mask is None else mask
    return jnp.maximum(emissions, LOW), jnp.maximum(transitions, LOW), mask


def log_partition(
    emissions: Float[Array, "b l c"], transitions: Float[Array, "c c"], mask: Bool[Array, "b l"] | None = None
) -> Float[Array, " b"]:
    """Return the log partition function log Z: the log of Σ exp(score) over all labelings.

    Args:
        emissions: e, [b, l, c].
        transitions: scores from a label to the next, [c, c].
        mask: mask of valid tokens; None means all.

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
    """Return the score of a labeling: its emissions plus the transitions between neighboring tokens.

    Example:
        >>> score(jnp.array([[[0.0, 1.0], [2.0, 0.0]]]), jnp.array([[0.0, 0.0], [5.0, 0.0]]), jnp.array([[1, 0]]))
        Array([8.], dtype=float32)
    """
    emissions, transitions, mask = scores(emissions, transitions, mask)

    def add(carry, inputs):
        before, begun = carry
        label, emission, valid = inputs
        step = emission + jnp.where(begun, transitions[before, label], 0)
        return (jnp.where(valid, label, before), begun | valid), jnp.where(valid, step, 0)

    emission = jnp.take_along_axis(emissions, labels[..., None], -1)[..., 0]
    start = (jnp.zeros_like(labels[:, 0]), jnp.zeros_like(mask[:, 0]))
    _, steps = jax.lax.scan(add, start, (labels.T, emission.T, mask.T))
    return jnp.sum(steps, 0)


def log_marginals(
    emissions: Float[Array, "b l c"], transitions: Float[Array, "c c"], mask: Bool[Array, "b l"] | None = None
) -> Float[Array, "b l c"]:
    """Return the per-token log marginals log P(y_i = c | x), by the forward–backward algorithm.

    Args:
        emissions: e, [b, l, c].
        transitions: scores from a label to the next, [c, c].
        mask: mask of valid tokens; None means all. At other tokens the result is normalized, but meaningless.

    Returns:
        Log-probabilities [b, l, c]; −inf where a label is forbidden.

    Example:
        >>> jnp.exp(log_marginals(jnp.zeros((1, 2, 2)), jnp.zeros((2, 2)))).tolist()
        [[[0.5, 0.5], [0.5, 0.5]]]
    """
    emissions, transitions, mask = scores(emissions, transitions, mask)
    _, alphas = _forward(emissions, transitions, mask)

    def back(beta, inputs):
        emission, valid = inputs
        after = jax.nn.logsumexp(transitions[None] + (emission + beta)[:, None, :], -1)
        return jnp.where(valid[:, None], after, beta), beta

    start = jnp.zeros_like(emissions[:, 0])
    _, betas = jax.lax.scan(back, start, (jnp.swapaxes(emissions, 0, 1), mask.T), reverse=True)
    both = jnp.swapaxes(alphas + betas, 0, 1)
    forbidden = both < LOW / 2
    return log_softmax(jnp.where(forbidden, -jnp.inf, both))


def _forward(emissions, transitions, mask):
    """Run the forward recursion; return its log-sums at the last token, [b, c], and at each token, [l, b, c]."""

    def add(carry, inputs):
        alpha, begun = carry
        emission, valid = inputs
        before = jax.nn.logsumexp(alpha[:, :, None] + transitions[None], 1)
        new = emission + jnp.where(begun[:, None], before, 0)
        alpha = jnp.where(valid[:, None], new, alpha)
        return (alpha, begun | valid), alpha

    start = (jnp.zeros_like(emissions[:, 0]), jnp.zeros_like(mask[:, 0]))
    (last, _), alphas = jax.lax.scan(add, start, (jnp.swapaxes(emissions, 0, 1), mask.T))
    return last, alphas
