"""Adjusting the bias of classes that a training set lacked, or had too many of."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Integer


def shifted(
    logits: Float[Array, "n c"], classes: Bool[Array, " c"], shift: Float[Array, ""] | float
) -> Float[Array, "n c"]:
    """Logits after the bias of some classes was raised.

    Example:
        >>> shifted(jnp.zeros((1, 3)), jnp.array([False, True, False]), 3.5).tolist()
        [[0.0, 3.5, 0.0]]
    """
    return logits + jnp.where(classes, shift, 0)


def best_shift(
    logits: Float[Array, "n c"], labels: Integer[Array, " n"], classes: Bool[Array, " c"]
) -> Float[Array, ""]:
    """What to add to the bias of some classes, so that the fewest rows are wrong.

    Formula: argmin_s #{i : argmax(z_i + s · 1[classes]) ≠ y_i}, found exactly: row i turns to the classes at
    s = d_i = max_others z_i − max_classes z_i, so that the number of right rows changes at the sorted d only

    Choose on rows that nobody reports: on the test split itself, as papers have done, the shift is another thing that
    was fitted to it.

    Args:
        logits: z.
        labels: y, 0 … c − 1.
        classes: which share the shift; some, not all.

    Returns:
        The middle of the best interval; of several, the lowest. At either end, one beyond the last d.

    Source: Hinton et al., Distilling the Knowledge in a Neural Network, 2015, section 3,
        https://arxiv.org/abs/1503.02531

    Example:
        >>> z = jnp.array([[0.0, -3.0], [0.0, -2.0], [0.0, -9.0]])
        >>> best_shift(z, jnp.array([1, 1, 0]), jnp.array([False, True])).item()
        6.0
    """
    own, other = jnp.where(classes, logits, -jnp.inf), jnp.where(classes, -jnp.inf, logits)
    turns = jnp.max(other, -1) - jnp.max(own, -1)
    # right on one side of its turn: +1 from there on, or −1
    change = (jnp.argmax(own, -1) == labels).astype(jnp.int32) - (jnp.argmax(other, -1) == labels)
    order = jnp.argsort(turns)
    turns = turns[order]
    right = jnp.concatenate([jnp.zeros(1, jnp.int32), jnp.cumsum(change[order])])  # after the first k turns
    ends = jnp.concatenate([turns[:1] - 1, turns, turns[-1:] + 1])
    open_ = jnp.concatenate([jnp.array([True]), turns[1:] > turns[:-1], jnp.array([True])])  # equal turns come together
    best = jnp.argmax(jnp.where(open_, right, jnp.iinfo(jnp.int32).min))
    low, high = ends[best], ends[best + 1]
    return jnp.where(best == 0, low, jnp.where(best == len(turns), high, (low + high) / 2))
