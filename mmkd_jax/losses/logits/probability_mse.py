"""Mean squared error between softened probabilities."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from mmkd_jax.numeric import at_least_float32, log_softmax, softened, squared
from mmkd_jax.typing import Positive
from mmkd_jax.validation import validated


@validated
def probability_mse(
    student: Float[Array, "*n c"], teacher: Float[Array, "*n c"], *, temperature: Positive = 1.0
) -> Float[Array, "*n"]:
    """Mean squared error between softened probabilities.

    Formula: (T² / C) Σ_c (q_c − p_c)², p = softmax(t / T), q = softmax(s / T)

    Args:
        student: logits s, [..., c].
        teacher: logits t, [..., c].
        temperature: T > 0, a scalar or one value per example.

    Returns:
        Values [...], with the factor T². Classes at −inf in both are ignored; at −inf in one only, the value is finite.

    Compares: logits
    Extra: none
    Source: Brier, Verification of Forecasts Expressed in Terms of Probability, 1950,
        https://doi.org/10.1175/1520-0493(1950)078%3C0001:VOFEIT%3E2.0.CO;2

    Example:
        >>> probability_mse(jnp.array([[0.0, 0.0]]), jnp.array([[0.0, -jnp.inf]]))
        Array([0.25], dtype=float32)
    """
    student, teacher = at_least_float32(student, teacher)
    gone = (student == -jnp.inf) & (teacher == -jnp.inf)
    q, p = (jnp.exp(log_softmax(softened(x, temperature))) for x in (student, teacher))
    classes = jnp.maximum(jnp.sum(~gone, -1).astype(q.dtype), 1)
    return squared(temperature, student) * jnp.sum((q - p) ** 2, -1) / classes
