"""Linear-chain conditional random fields (CRF): pure functions of emissions, transitions and a token mask.

The chain consists of the tokens under the mask; tokens between them are skipped. A score of −inf forbids a label, or a
pair of labels. Models with start and end scores add them to the emissions of the first and the last token.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Integer

from mmkd_jax.numeric import at_least_float32, log_softmax

LOW = -1e30  # score of a forbidden label; sums of several stay finite


def _finite(
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
    alphas, _ = _forward(*_finite(emissions, transitions, mask))
    return jax.nn.logsumexp(alphas, -1)


def score(
    emissions: Float[Array, "b l c"],
    transitions: Float[Array, "c c"],
    labels: Integer[Array, "b l"],
    mask: Bool[Array, "b l"] | None = None,
) -> Float[Array, " b"]:
    """Return the score of a labeling: its emissions plus the transitions between neighboring tokens.

    Args:
        emissions: e, [b, l, c].
        transitions: scores from a label to the next, [c, c].
        labels: integers [b, l] in 0 … c − 1; others only outside the mask.
        mask: mask of valid tokens; None means all.

    Example:
        >>> score(jnp.array([[[0.0, 1.0], [2.0, 0.0]]]), jnp.array([[0.0, 0.0], [5.0, 0.0]]), jnp.array([[1, 0]]))
        Array([8.], dtype=float32)
    """
    emissions, transitions, mask = _finite(emissions, transitions, mask)

    def add(carry, inputs):
        before, begun = carry
        label, emission, valid = inputs
        step = emission + jnp.where(begun, transitions[before, label], 0)
        return (jnp.where(valid, label, before), begun | valid), jnp.where(valid, step, 0)

    emission = jnp.take_along_axis(emissions, labels[..., None], -1)[..., 0]
    start = (jnp.zeros(labels.shape[:1], labels.dtype), jnp.zeros(mask.shape[:1], bool))
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
    emissions, transitions, mask = _finite(emissions, transitions, mask)
    _, alphas = _forward(emissions, transitions, mask)

    def back(beta, inputs):
        emission, valid = inputs
        after = jax.nn.logsumexp(transitions[None] + (emission + beta)[:, None, :], -1)
        return jnp.where(valid[:, None], after, beta), beta

    start = jnp.zeros(emissions.shape[::2], emissions.dtype)
    _, betas = jax.lax.scan(back, start, (jnp.swapaxes(emissions, 0, 1), mask.T), reverse=True)
    both = jnp.swapaxes(alphas + betas, 0, 1)
    forbidden = both < LOW / 2
    return log_softmax(jnp.where(forbidden, -jnp.inf, both))


def viterbi(
    emissions: Float[Array, "b l c"], transitions: Float[Array, "c c"], mask: Bool[Array, "b l"] | None = None
) -> Int[Array, "b l"]:
    """Return the labeling with the highest score, by dynamic programming; in at least float32.

    Formula: argmax_y Σ_i (e_i(y_i) + A(y_i−1, y_i)), over the valid tokens

    Of labelings with equal scores, that with the smallest label at the last token, then at the one before it, and so
    on. If all labelings are forbidden, one with the fewest forbidden scores.

    Args:
        emissions: e, [b, l, c]; −inf forbids a label.
        transitions: scores A from a label to the next, [c, c]; −inf forbids a pair.
        mask: mask of valid tokens; None means all.

    Returns:
        Labels [b, l], integers in 0 … c − 1; −1 for tokens outside the mask.

    Source: Viterbi, Error bounds for convolutional codes and an asymptotically optimum decoding algorithm, 1967,
        https://doi.org/10.1109/TIT.1967.1054010

    Example:
        >>> never = jnp.array([[0.0, -jnp.inf], [0.0, 0.0]])  # 1 cannot follow 0
        >>> viterbi(jnp.array([[[1.0, 0.0], [0.0, 3.0], [9.0, 9.0]]]), never, jnp.array([[True, True, False]]))
        Array([[ 1,  1, -1]], dtype=int32)
    """
    emissions, transitions = at_least_float32(emissions, transitions)
    emissions, transitions, mask = _finite(emissions, transitions, mask)

    def add(carry, inputs):
        best, begun = carry
        emission, valid = inputs
        paths = best[:, :, None] + transitions[None]
        new = emission + jnp.where(begun[:, None], jnp.max(paths, 1), 0)
        return (jnp.where(valid[:, None], new, best), begun | valid), jnp.argmax(paths, 1).astype(jnp.int32)

    def back(label, inputs):
        before, valid = inputs
        previous = jnp.take_along_axis(before, label[:, None], 1)[:, 0]
        return jnp.where(valid, previous, label), jnp.where(valid, label, -1)

    start = (jnp.zeros(emissions.shape[::2], emissions.dtype), jnp.zeros(mask.shape[:1], bool))
    (best, _), before = jax.lax.scan(add, start, (jnp.swapaxes(emissions, 0, 1), mask.T))
    _, labels = jax.lax.scan(back, jnp.argmax(best, -1).astype(jnp.int32), (before, mask.T), reverse=True)
    return labels.T


def _forward(emissions, transitions, mask):
    """Run the forward recursion; return its log-sums at the last token, [b, c], and at each token, [l, b, c]."""

    def add(carry, inputs):
        alpha, begun = carry
        emission, valid = inputs
        before = jax.nn.logsumexp(alpha[:, :, None] + transitions[None], 1)
        new = emission + jnp.where(begun[:, None], before, 0)
        alpha = jnp.where(valid[:, None], new, alpha)
        return (alpha, begun | valid), alpha

    start = (jnp.zeros(emissions.shape[::2], emissions.dtype), jnp.zeros(mask.shape[:1], bool))
    (last, _), alphas = jax.lax.scan(add, start, (jnp.swapaxes(emissions, 0, 1), mask.T))
    return last, alphas
