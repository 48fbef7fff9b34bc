"""Prior shift: bias correction for classes missing from, or overrepresented in, the training set."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Integer


def apply_prior_shift(
    logits: Float[Array, "n c"], classes: Bool[Array, " c"], shift: Float[Array, ""] | float
) -> Float[Array, "n c"]:
    """Add a shift to the logits of some classes.

    Example:
        >>> apply_prior_shift(jnp.zeros((1, 3)), jnp.array([False, True, False]), 3.5).tolist()
        [[0.0, 3.5, 0.0]]
    """
    return logits + jnp.where(classes, shift, 0)


def prior_shift(
    logits: Float[Array, "n c"], labels: Integer[Array, " n"], classes: Bool[Array, " c"]
) -> Float[Array, ""]:
    """Bias shift of some classes that minimizes the number of errors.

    Formula: argmin_s #{i : argmax(z_i + s · 1[classes]) ≠ y_i}, solved exactly: row i switches to the classes at
    s = d_i = max_others z_i − max_classes z_i, so the number of correct rows changes only at the sorted d

    Fit it on validation rows: if fitted on the test split itself, as papers have done, the shift is one more parameter
    fitted to the test set.

    Args:
        logits: z, [n, c].
        labels: y, [n], from 0 to c − 1.
        classes: mask of the classes that share the shift, [c]; some, not all.

    Returns:
        The midpoint of the best interval, the lowest if several tie. For an open interval at either end, one beyond
        the outermost d. NaN if a logit is NaN.

    Source: Hinton et al., Distilling the Knowledge in a Neural Network, 2015, section 3,
        https://arxiv.org/abs/1503.02531

    Example:
        >>> z = jnp.array([[0.0, -3.0], [0.0, -2.0], [0.0, -9.0]])
        >>> prior_shift(z, jnp.array([1, 1, 0]), jnp.array([False, True])).item()
        6.0
    """
    offsets, fixed = jnp.where(classes, logits, -jnp.inf), jnp.where(classes, -jnp.inf, logits)
    thresholds = jnp.max(fixed, -1) - jnp.max(offsets, -1)
    # +1 if the row becomes correct at its threshold, −1 if it becomes wrong
    change = (jnp.argmax(offsets, -1) == labels).astype(jnp.int32) - (jnp.argmax(fixed, -1) == labels)
    order = jnp.argsort(thresholds)
    thresholds = thresholds[order]
    correct = jnp.concatenate([jnp.zeros(1, jnp.int32), jnp.cumsum(change[order])])  # after the first k thresholds
    ends = jnp.concatenate([thresholds[:1] - 1, thresholds, thresholds[-1:] + 1])
    # equal thresholds are crossed together
    is_interval = jnp.concatenate([jnp.array([True]), thresholds[1:] > thresholds[:-1], jnp.array([True])])
    best = jnp.argmax(jnp.where(is_interval, correct, jnp.iinfo(jnp.int32).min))
    low, high = ends[best], ends[best + 1]
    shift = jnp.where(best == 0, low, jnp.where(best == len(thresholds), high, (low + high) / 2))
    return jnp.where(jnp.any(jnp.isnan(logits)), jnp.nan, shift)
