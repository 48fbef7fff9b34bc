"""Negative log-likelihood of a linear-chain CRF."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Integer

from mmkd_jax import crf
from mmkd_jax.numeric import at_least_float32
from mmkd_jax.validation import validated


@validated
def crf_nll(
    logits: Float[Array, "b l c"],
    transitions: Float[Array, "c c"],
    labels: Integer[Array, "b l"],
    *,
    mask: Bool[Array, "b l"] | None = None,
) -> Float[Array, " b"]:
    """Negative log-likelihood of a labeling under a linear-chain conditional random field (CRF).

    Formula: log Z(e, A) − Σ_i (e_i(y_i) + A(y_i−1, y_i)), over the valid tokens

    With a teacher's best labelings as labels, this is structure-level distillation.

    Args:
        logits: emissions e, [b, l, c].
        transitions: scores A from a label to the next, [c, c]; −inf forbids a pair.
        labels: y, integers [b, l] in 0 … c − 1.
        mask: mask of valid tokens; None means all.

    Returns:
        Values [b], summed over the tokens of a text; 0 for a text without valid tokens, and very large for forbidden
        labels.

    Compares: emissions and transitions, labels
    Extra: transitions
    Source: Lafferty et al., Conditional Random Fields, 2001, https://repository.upenn.edu/cis_papers/159

    Example:
        >>> crf_nll(jnp.zeros((1, 3, 2)), jnp.zeros((2, 2)), jnp.array([[0, 1, 1]])).round(4)  # log 2³
        Array([2.0794], dtype=float32)
    """
    logits, transitions = at_least_float32(logits, transitions)
    mask = jnp.ones(labels.shape, bool) if mask is None else mask
    gap = crf.log_partition(logits, transitions, mask) - crf.score(logits, transitions, labels, mask)
    return jnp.where(jnp.any(mask, 1), gap, 0)
