"""Cross-entropy with labels."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from mmkd_jax.losses.checked import checked
from mmkd_jax.losses.number import Share
from mmkd_jax.losses.numeric import at_least_float32, like, log_softmax


@checked
def cross_entropy(
    logits: Float[Array, "*n c"], labels: Int[Array, "*n"], *, label_smoothing: Share = 0.0
) -> Float[Array, "*n"]:
    """Cross-entropy with integer labels.

    Formula: −Σ_c q_c log softmax(z)_c, q = (1 − ε) onehot(y) + ε / C

    Args:
        logits: z, [..., c].
        labels: y, [...], 0 … c − 1.
        label_smoothing: ε, 0 … 1.

    Returns:
        Values [...]. Classes at −inf take no part in the smoothing; with the label among them the value is +inf.

    Compares: logits, labels
    Extra: none
    Source: Szegedy et al., Rethinking the Inception Architecture, 2016, https://arxiv.org/abs/1512.00567

    Example:
        >>> cross_entropy(jnp.array([[0.0, 0.0]]), jnp.array([1]))
        Array([0.6931472], dtype=float32)
    """
    (logits,) = at_least_float32(logits)
    logp = log_softmax(logits)
    picked = jnp.take_along_axis(logp, labels[..., None], -1)[..., 0]
    there = logits > -jnp.inf
    classes = jnp.maximum(jnp.sum(there, -1).astype(logp.dtype), 1)
    uniform = jnp.sum(jnp.where(there, jnp.where(there, logp, 0), 0), -1) / classes
    eps = like(label_smoothing, uniform)
    return -((1 - eps) * picked + eps * uniform)
