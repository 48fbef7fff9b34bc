"""Cross-entropy with hard or soft labels, label smoothing, or class weights."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Integer

from mmkd_jax.collectives import summed
from mmkd_jax.losses.logits.topk import TopK, log_probabilities
from mmkd_jax.numeric import at_least_float32, cross, like, log_softmax, weighed
from mmkd_jax.typing import Share
from mmkd_jax.validation import validated


@validated
def cross_entropy(
    logits: Float[Array, "*n c"],
    labels: Integer[Array, "*n"] | Float[Array, "*n c"] | TopK,
    *,
    label_smoothing: Share = 0.0,
) -> Float[Array, "*n"]:
    """Cross-entropy with hard or soft labels.

    Formula: −Σ_c q_c log softmax(z)_c, q = (1 − ε) y + ε / C; a hard label y is onehot(y)

    Args:
        logits: z, [..., c].
        labels: y, integers [...] in 0 … c − 1, probabilities [..., c], or a `TopK` record computed at T = 1.
        label_smoothing: ε, 0 … 1.

    Returns:
        Values [...]. Classes at −inf are excluded from smoothing; the value is +inf if the label gives one of them
        mass.

    Compares: logits, labels
    Extra: none
    Source: Szegedy et al., Rethinking the Inception Architecture, 2016, https://arxiv.org/abs/1512.00567

    Example:
        >>> cross_entropy(jnp.array([[0.0, 0.0]]), jnp.array([1]))
        Array([0.6931472], dtype=float32)
    """
    (logits,) = at_least_float32(logits)
    logp = log_softmax(logits)
    present = logits != -jnp.inf
    classes = jnp.maximum(jnp.sum(present, -1).astype(logp.dtype), 1)
    uniform = jnp.sum(jnp.where(present, jnp.where(present, logp, 0), 0), -1) / classes
    eps = like(label_smoothing, uniform)
    return weighed(1 - eps, _from_labels(logits, logp, labels)) - eps * uniform


@validated
def weighted_cross_entropy(
    logits: Float[Array, "*n c"],
    labels: Integer[Array, "*n"] | Float[Array, "*n c"],
    class_weights: Float[Array, " c"],
    *,
    normalize: bool = False,
    where: Bool[Array, "..."] | None = None,
    axis_name: str | None = None,
) -> Float[Array, "*n"]:
    """Class-weighted cross-entropy for imbalanced data, with hard or soft labels.

    Formula: −Σ_c w_c y_c log softmax(z)_c; normalize: times n / Σ_i Σ_c w_c y_ic, summed over the n valid rows

    Args:
        logits: z, [..., c].
        labels: y, integers [...] in 0 … c − 1, or probabilities [..., c].
        class_weights: w, [c].
        normalize: divide by the mean label weight of the batch, so that the values average to Σ w·ce / Σ w.
        where: mask of valid rows, along the leading axes of the values; it affects valid rows only through `normalize`.
        axis_name: device axis inside `shard_map` or `pmap`; None otherwise.

    Returns:
        Values [...]; +inf if the label gives weighted mass to a class at −inf.

    Compares: logits, labels
    Extra: none
    Source: Cui et al., Class-Balanced Loss Based on Effective Number of Samples, 2019,
        https://arxiv.org/abs/1901.05555
    Differs: PyTorch normalizes for hard labels and does not for soft ones

    Example:
        >>> weighted_cross_entropy(jnp.zeros((1, 2)), jnp.array([1]), jnp.array([1.0, 3.0]))
        Array([2.0794415], dtype=float32)
    """
    logits, class_weights = at_least_float32(logits, class_weights)
    soft = (
        labels
        if jnp.issubdtype(labels.dtype, jnp.floating)
        else jax.nn.one_hot(labels, len(class_weights), dtype=logits.dtype)
    )
    mass = at_least_float32(soft, logits)[0] * class_weights.reshape((1,) * (logits.ndim - 1) + (-1,))
    counts = jnp.ones(logits.shape[:-1], bool)
    if where is not None:
        counts = counts & where.reshape(where.shape + (1,) * (counts.ndim - where.ndim))
    mass, logits = (jnp.where(counts[..., None], x, 0) for x in (mass, logits))
    values = cross(mass, log_softmax(logits))
    if not normalize:
        return values
    total, n = summed(jnp.sum(mass), axis_name), summed(jnp.sum(counts), axis_name).astype(mass.dtype)
    return values * n / jnp.where(total > 0, total, 1)


def _from_labels(logits, logp, labels):
    if isinstance(labels, TopK):
        soft, logp = log_probabilities(logits, labels, 1.0)
        return cross(jnp.exp(soft), logp)
    if jnp.issubdtype(labels.dtype, jnp.integer):
        return -jnp.take_along_axis(logp, labels[..., None], -1)[..., 0]
    return cross(*at_least_float32(labels, logp))
