"""The predictions of several modalities, against what they agree on."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mmkd_jax.losses.checked import BadInput, checked
from mmkd_jax.losses.number import Number, Positive
from mmkd_jax.losses.numeric import (
    at_least_float32,
    divergence,
    expected,
    finite,
    like,
    log_mixture,
    log_softmax,
    softened,
    squared,
    weighed,
)


@checked
def agreement_jsd(
    logits: tuple[Float[Array, "b c"], ...],
    *,
    present: tuple[Bool[Array, " b"], ...] = (),
    sharpness: Number = 1.0,
    temperature: Positive = 1.0,
) -> Float[Array, " b"]:
    """Jensen–Shannon divergence of the predictions of several modalities, each weighing as much as the others agree.

    Formula: Σ_m w_m KL(p_m ‖ p̄), p̄ = Σ_m w_m p_m, p_m = softmax(z_m / T),
        w_m ∝ exp(−κ mean_{n≠m} JSD(p_m, p_n))

    Every modality moves towards the consensus p̄, and p̄ moves with them. The weights w get no gradient.

    Args:
        logits: z of each modality, [b, c] each.
        present: rows that have the modality, [b] each, as many as there are logits; none given: all have all.
        sharpness: κ ≥ 0: how much less a modality weighs that contradicts the others; 0: all weigh the same.
        temperature: T > 0.

    Returns:
        Values [b], from 0 to log M; 0 in rows that have fewer than two modalities. A class at −inf in all of them
        counts as removed; at −inf in some, the value is finite.

    Compares: logits of several modalities
    Extra: a head a modality, as `methods.label_alignment` has them
    Source: Sutter et al., Multimodal Generative Learning Utilizing Jensen-Shannon-Divergence, 2020,
        https://arxiv.org/abs/2006.08242
    Differs: the paper compares posteriors of latents, with weights that are given; weights by agreement are ours

    Example:
        >>> x, y = jnp.array([[2.0, 0.0]]), jnp.array([[0.0, 2.0]])
        >>> agreement_jsd((x, x)), bool(agreement_jsd((x, y)) > 0.1)
        (Array([0.], dtype=float32), True)
    """
    logp, there = _predictions("agreement_jsd", logits, present, temperature)
    weights = _agreement(logp, there, sharpness)
    values = weighed(weights, expected(jnp.exp(logp), finite(logp) - _mixture(logp, weights)[None]))
    return _over_two(values, there)


@checked
def agreement_kl(
    logits: tuple[Float[Array, "b c"], ...],
    *,
    present: tuple[Bool[Array, " b"], ...] = (),
    sharpness: Number = 1.0,
    temperature: Positive = 1.0,
) -> Float[Array, " b"]:
    """KL from what several modalities agree on to the prediction of each: those that contradict it learn most.

    Formula: (T² / M) Σ_m KL(p̄ ‖ p_m), p̄ = Σ_m w_m p_m, p_m = softmax(z_m / T),
        w_m ∝ exp(−κ mean_{n≠m} JSD(p_m, p_n)); M modalities are there

    The consensus p̄ is a target: it gets no gradient, and neither do the weights w.

    Args:
        logits: z of each modality, [b, c] each.
        present: rows that have the modality, [b] each, as many as there are logits; none given: all have all.
        sharpness: κ ≥ 0: how much less a modality weighs that contradicts the others; 0: all weigh the same.
        temperature: T > 0.

    Returns:
        Values [b]; 0 in rows that have fewer than two modalities. A class at −inf in all of them counts as removed; at
        −inf in some, the value is +inf where p̄ has mass there.

    Compares: logits of several modalities
    Extra: a head a modality, as `methods.label_alignment` has them
    Source: Lan et al., Knowledge Distillation by On-the-Fly Native Ensemble, 2018, https://arxiv.org/abs/1806.04606
    Differs: the paper's target is the softmax of logits that a trained gate weighs; the mixture, and its weights by
        agreement, are ours

    Example:
        >>> x, y = jnp.array([[2.0, 0.0]]), jnp.array([[0.0, 2.0]])
        >>> agreement_kl((x, x)), bool(agreement_kl((x, y)) > 0.1)
        (Array([0.], dtype=float32), True)
    """
    logp, there = _predictions("agreement_kl", logits, present, temperature)
    consensus = jax.lax.stop_gradient(_mixture(logp, _agreement(logp, there, sharpness)))
    gaps = divergence(jnp.broadcast_to(consensus[None], logp.shape), logp)
    count = jnp.maximum(jnp.sum(there, 0), 1).astype(logp.dtype)
    return squared(temperature, logp[0]) * _over_two(gaps, there) / count


def _predictions(loss, logits, present, temperature) -> tuple[Float[Array, "m b c"], Bool[Array, "m b"]]:
    """Log-probabilities, those of nothing where a modality is not there, and where it is."""
    if len(logits) < 2:
        raise BadInput(f"{loss}: logits has {len(logits)} array; expected one for each of several modalities")
    if present and len(present) != len(logits):
        raise BadInput(f"{loss}: present has {len(present)} masks; expected {len(logits)}, one for each of logits")
    z = jnp.stack(at_least_float32(*logits))
    there = jnp.stack(present) if present else jnp.ones(z.shape[:2], bool)
    z = jnp.where(there[..., None], z, 0)
    return log_softmax(softened(z, jnp.broadcast_to(like(temperature, z[0, :, 0]), z.shape[:2]))), there


def _agreement(logp, there, sharpness) -> Float[Array, "m b"]:
    """How much each modality weighs; where none is there, all do."""
    p = jax.lax.stop_gradient(logp)
    total = jnp.zeros(there.shape, p.dtype)
    for i in range(len(p)):
        for j in range(i):
            gap = jnp.where(there[i] & there[j], _divergence(p[i], p[j]), 0)
            total = total.at[i].add(gap).at[j].add(gap)
    others = jnp.maximum(jnp.sum(there, 0) - 1, 1).astype(p.dtype)
    strife = jax.lax.stop_gradient(like(sharpness, p[0, :, 0])) * total / others[None]
    return jax.nn.softmax(jnp.where(there | ~jnp.any(there, 0)[None], -strife, -jnp.inf), 0)


def _divergence(logp, logq):
    """The Jensen–Shannon divergence."""
    middle = log_mixture(logp, logq, 0.5)
    return sum(expected(jnp.exp(x), finite(x) - middle) for x in (logp, logq)) / 2


def _mixture(logp, weights) -> Float[Array, "b c"]:
    """log Σ_m w_m p_m, relative to the largest: small probabilities keep their derivatives."""
    top = jax.lax.stop_gradient(finite(jnp.max(logp, 0)))
    m = jnp.sum(weights[..., None] * jnp.exp(logp - top[None]), 0)
    return jnp.where(m > 0, top + jnp.log(jnp.where(m > 0, m, 1)), -jnp.inf)


def _over_two(values, there) -> Float[Array, " b"]:
    """Their sum in rows that have two modalities or more."""
    return jnp.where(jnp.sum(there, 0) > 1, jnp.sum(jnp.where(there, values, 0), 0), 0)
