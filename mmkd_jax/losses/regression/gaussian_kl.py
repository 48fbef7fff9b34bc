"""KL divergence between predicted Gaussians."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from mmkd_jax.numeric import at_least_float32, mean_of_last
from mmkd_jax.validation import validated


@validated
def gaussian_kl(
    student: tuple[Float[Array, " b *d"], Float[Array, " b *d"]],
    teacher: tuple[Float[Array, " b *d"], Float[Array, " b *d"]],
) -> Float[Array, "b ..."]:
    """Distillation of predictive Gaussians: KL from the teacher's to the student's, averaged over dimensions.

    Formula: (1 / D) Σ_d ½ (σ_t² / σ_s² + (μ_s − μ_t)² / σ_s² − 1 − log(σ_t² / σ_s²)), the KL over all d divided by D

    Variances are passed as logarithms, so that any real model output is valid. In a term: `student=("student.mean",
    "student.log_variance")`.

    Args:
        student: mean μ_s and log σ_s², each [b] or [b, ..., d].
        teacher: mean μ_t and log σ_t², same shape; for an ensemble, its mean and the log of its total variance.

    Returns:
        Values [b] or [b, ...]; exponentials are continued by their tangent beyond e⁴⁰, so that values stay finite.

    Compares: predictions and their variances
    Extra: a head that predicts the variance
    Source: Malinin et al., Regression Prior Networks, 2020, https://arxiv.org/abs/2006.11590
    Differs: the paper's ensemble distillation uses the KL from the ensemble's Gaussians to the student's, its code the
        reverse; this follows the paper

    Example:
        >>> one = jnp.array([1.0]), jnp.array([0.0])
        >>> gaussian_kl((jnp.array([0.0]), jnp.array([0.0])), one)
        Array([0.5], dtype=float32)
    """
    mean, log_variance, center, log_spread = at_least_float32(*student, *teacher)
    gap, ratio = mean - center, log_spread - log_variance
    return mean_of_last(_exp(ratio) + gap * gap * _exp(-log_variance) - 1 - ratio) / 2


def _exp(x):
    """Compute eˣ, continued by its tangent beyond x = 40."""
    low = jnp.minimum(x, 40)
    return jnp.exp(low) * (1 + (x - low))
