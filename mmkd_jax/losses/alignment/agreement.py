"""Agreement losses between the predictions of several modalities and their consensus."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mmkd_jax.errors import UserError
from mmkd_jax.numeric import (
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
from mmkd_jax.typing import Positive, Scalar
from mmkd_jax.validation import validated


@validated
def agreement_jsd(
    logits: tuple[Float[Array, "b c"], ...],
    *,
    present: tuple[Bool[Array, " b"], ...] = (),
    sharpness: Scalar = 1.0,
    temperature: Positive = 1.0,
) -> Float[Array, " b"]:
    """Jensen–Shannon divergence of several modalities' predictions, weighted by mutual agreement.

    Formula: Σ_m w_m KL(p_m ‖ p̄), p̄ = Σ_m w_m p_m, p_m = softmax(z_m / T),
        w_m ∝ exp(−κ mean_{n≠m} JSD(p_m, p_n))

    Every modality moves toward the consensus p̄, and p̄ moves with them. The weights w get no gradient.

    Args:
        logits: z of each modality, [b, c] each.
        present: mask of the rows that have the modality, [b] each, one per entry of logits; () is all rows.
        sharpness: κ ≥ 0, how strongly disagreement lowers a modality's weight; 0 weights all equally.
        temperature: T > 0.

    Returns:
        Per-example loss, [b], from 0 to log M; 0 for rows with fewer than two modalities. A class at −inf in all
        modalities is ignored; if it is −inf in only some, the loss is finite.

    Compares: logits of several modalities
    Extra: a head per modality, as in `methods.label_alignment`
    Source: Sutter et al., Multimodal Generative Learning Utilizing Jensen-Shannon-Divergence, 2020,
        https://arxiv.org/abs/2006.08242
    Differs: the paper compares latent posteriors with given weights; weighting by agreement is new here

    Example:
        >>> x, y = jnp.array([[2.0, 0.0]]), jnp.array([[0.0, 2.0]])
        >>> agreement_jsd((x, x)), bool(agreement_jsd((x, y)) > 0.1)
        (Array([0.], dtype=float32), True)
    """
    logp, is_present = _predictions("agreement_jsd", logits, present, temperature)
    weights = _agreement(logp, is_present, sharpness)
    values = weighed(weights, expected(jnp.exp(logp), finite(logp) - _mixture(logp, weights)[None]))
    return _over_two(values, is_present)


@validated
def agreement_kl(
    logits: tuple[Float[Array, "b c"], ...],
    *,
    present: tuple[Bool[Array, " b"], ...] = (),
    sharpness: Scalar = 1.0,
    temperature: Positive = 1.0,
) -> Float[Array, " b"]:
    """KL from the consensus of several modalities to each one's prediction; outliers get the largest gradients.

    Formula: (T² / M) Σ_m KL(p̄ ‖ p_m), p̄ = Σ_m w_m p_m, p_m = softmax(z_m / T),
        w_m ∝ exp(−κ mean_{n≠m} JSD(p_m, p_n)); M the number of modalities present

    The consensus p̄ is a target: it gets no gradient, and neither do the weights w.

    Args:
        logits: z of each modality, [b, c] each.
        present: mask of the rows that have the modality, [b] each, one per entry of logits; () is all rows.
        sharpness: κ ≥ 0, how strongly disagreement lowers a modality's weight; 0 weights all equally.
        temperature: T > 0.

    Returns:
        Per-example loss, [b]; 0 for rows with fewer than two modalities. A class at −inf in all modalities is ignored;
        if it is −inf in only some, the loss is +inf where p̄ is positive.

    Compares: logits of several modalities
    Extra: a head per modality, as in `methods.label_alignment`
    Source: Lan et al., Knowledge Distillation by On-the-Fly Native Ensemble, 2018, https://arxiv.org/abs/1806.04606
    Differs: the paper's target is the softmax of logits weighted by a trained gate; the mixture, and weighting it by
        agreement, are new here

    Example:
        >>> x, y = jnp.array([[2.0, 0.0]]), jnp.array([[0.0, 2.0]])
        >>> agreement_kl((x, x)), bool(agreement_kl((x, y)) > 0.1)
        (Array([0.], dtype=float32), True)
    """
    logp, is_present = _predictions("agreement_kl", logits, present, temperature)
    consensus = jax.lax.stop_gradient(_mixture(logp, _agreement(logp, is_present, sharpness)))
    gaps = divergence(jnp.broadcast_to(consensus[None], logp.shape), logp)
    count = jnp.maximum(jnp.sum(is_present, 0), 1).astype(logp.dtype)
    return squared(temperature, logp[0]) * _over_two(gaps, is_present) / count


def _predictions(loss, logits, present, temperature) -> tuple[Float[Array, "m b c"], Bool[Array, "m b"]]:
    """Log-probabilities, uniform for absent modalities, and the presence mask."""
    if len(logits) < 2:
        raise UserError(f"{loss}: logits has {len(logits)} array; expected two or more, one per modality")
    if present and len(present) != len(logits):
        raise UserError(f"{loss}: present has {len(present)} masks; expected {len(logits)}, one per entry of logits")
    z = jnp.stack(at_least_float32(*logits))
    is_present = jnp.stack(present) if present else jnp.ones(z.shape[:2], bool)
    z = jnp.where(is_present[..., None], z, 0)
    return log_softmax(softened(z, jnp.broadcast_to(like(temperature, z[0, :, 0]), z.shape[:2]))), is_present


def _agreement(logp, is_present, sharpness) -> Float[Array, "m b"]:
    """Weight of each modality; uniform if none is present."""
    p = jax.lax.stop_gradient(logp)
    total = jnp.zeros(is_present.shape, p.dtype)
    for i in range(len(p)):
        for j in range(i):
            gap = jnp.where(is_present[i] & is_present[j], _divergence(p[i], p[j]), 0)
            total = total.at[i].add(gap).at[j].add(gap)
    others = jnp.maximum(jnp.sum(is_present, 0) - 1, 1).astype(p.dtype)
    disagreement = jax.lax.stop_gradient(like(sharpness, p[0, :, 0])) * total / others[None]
    return jax.nn.softmax(jnp.where(is_present | ~jnp.any(is_present, 0)[None], -disagreement, -jnp.inf), 0)


def _divergence(logp, logq):
    """Jensen–Shannon divergence."""
    middle = log_mixture(logp, logq, 0.5)
    return sum(expected(jnp.exp(x), finite(x) - middle) for x in (logp, logq)) / 2


def _mixture(logp, weights) -> Float[Array, "b c"]:
    """log Σ_m w_m p_m, relative to the largest: small probabilities keep their derivatives."""
    top = jax.lax.stop_gradient(finite(jnp.max(logp, 0)))
    m = jnp.sum(weights[..., None] * jnp.exp(logp - top[None]), 0)
    return jnp.where(m != 0, top + jnp.log(jnp.where(m != 0, m, 1)), -jnp.inf)


def _over_two(values, is_present) -> Float[Array, " b"]:
    """Sum over modalities, in rows with two or more modalities; otherwise 0."""
    return jnp.where(jnp.sum(is_present, 0) > 1, jnp.sum(jnp.where(is_present, values, 0), 0), 0)
