"""Losses of ordered classes: each logit decides whether the level is above a threshold."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Integer

from mmkd_jax.numeric import at_least_float32
from mmkd_jax.validation import validated


@validated
def ordinal_coral(logits: Float[Array, "*n c"], levels: Integer[Array, "*n"]) -> Float[Array, "*n"]:
    """Consistent rank logits (CORAL): binary cross-entropy of "the level is above k", summed over the thresholds k.

    Formula: −Σ_k [y > k] log σ(z_k) + [y ≤ k] log σ(−z_k), k = 0 … C − 1

    Args:
        logits: z, one per threshold, [..., c], for c + 1 levels. With one weight vector for all thresholds and a bias
            for each, as in `models.RankHead`, their order is the same for all rows.
        levels: y, integers [...] in 0 … c.

    Returns:
        Values [...].

    Compares: logits, labels
    Extra: none
    Source: Cao et al., Rank consistent ordinal regression for neural networks, 2020, https://arxiv.org/abs/1901.07884

    Example:
        >>> ordinal_coral(jnp.array([[0.0, 0.0]]), jnp.array([1])).round(4)  # 2 log 2
        Array([1.3863], dtype=float32)
    """
    (logits,) = at_least_float32(logits)
    return jnp.sum(_binary(logits, _above(logits, levels)), -1)


@validated
def ordinal_corn(logits: Float[Array, "*n c"], levels: Integer[Array, "*n"]) -> Float[Array, "*n"]:
    """Conditional ordinal regression (CORN): binary cross-entropy of "above k" among the rows that are above k − 1.

    Formula: −Σ_{k ≤ y} [y > k] log σ(z_k) + [y ≤ k] log σ(−z_k), k = 0 … C − 1; P(y > k) = Π_{j ≤ k} σ(z_j)

    Args:
        logits: z, one per threshold, [..., c], for c + 1 levels.
        levels: y, integers [...] in 0 … c.

    Returns:
        Values [...]: the negative log-likelihood of the level.

    Compares: logits, labels
    Extra: none
    Source: Shi et al., Deep Neural Networks for Rank-Consistent Ordinal Regression Based On Conditional Probabilities,
        2021, https://arxiv.org/abs/2111.08851
    Differs: the authors divide the sum over a batch by its number of conditional decisions, not by its rows

    Example:
        >>> ordinal_corn(jnp.array([[0.0, 0.0], [0.0, 0.0]]), jnp.array([0, 2])).round(4)  # log 2, 2 log 2
        Array([0.6931, 1.3863], dtype=float32)
    """
    (logits,) = at_least_float32(logits)
    decided = levels[..., None] >= _thresholds(logits)
    return jnp.sum(jnp.where(decided, _binary(logits, _above(logits, levels)), 0), -1)


def _thresholds(logits: Float[Array, "*n c"]) -> Integer[Array, "*n c"]:
    return jax.lax.broadcasted_iota(jnp.int32, logits.shape, logits.ndim - 1)


def _above(logits: Float[Array, "*n c"], levels: Integer[Array, "*n"]) -> Bool[Array, "*n c"]:
    return levels[..., None] > _thresholds(logits)


def _binary(logits: Float[Array, "*n c"], positive: Bool[Array, "*n c"]) -> Float[Array, "*n c"]:
    return -jnp.where(positive, jax.nn.log_sigmoid(logits), jax.nn.log_sigmoid(-logits))
