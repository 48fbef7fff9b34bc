"""KL between the per-token marginals of two CRFs."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mmkd_jax import crf
from mmkd_jax.numeric import at_least_float32, divergence, log_softmax, softened, squared
from mmkd_jax.typing import Positive
from mmkd_jax.validation import validated


@validated
def crf_marginal_kl(
    student: tuple[Float[Array, "b l c"], Float[Array, "c c"]],
    teacher: tuple[Float[Array, "b l c"], Float[Array, "c c"]],
    *,
    mask: Bool[Array, "b l"] | None = None,
    temperature: Positive = 1.0,
) -> Float[Array, " b"]:
    """Posterior distillation of linear-chain CRFs: KL from the teacher's per-token marginals to the student's.

    Formula: T² Σ_i Σ_c p_ic (log p_ic − log q_ic), p_i ∝ P_t(y_i | x)^(1 / T), q_i ∝ P_s(y_i | x)^(1 / T), over the
        valid tokens

    In a term: `student=("student.emissions", "student.transitions")`.

    Args:
        student: emissions [b, l, c] and transitions from a label to the next, [c, c]; −inf forbids a label or a pair.
        teacher: emissions and transitions, same shapes.
        mask: mask of valid tokens, for the chain and for the sum; None means all.
        temperature: T > 0, applied to the marginals; a scalar or one value per example.

    Returns:
        Values [b], summed over the tokens of a text, with the factor T²; +inf where only the student forbids a label.

    Compares: emissions and transitions
    Extra: transitions of both models
    Source: Wang et al., Structure-Level Knowledge Distillation For Multilingual Sequence Labeling, 2020,
        https://arxiv.org/abs/2004.03846

    Example:
        >>> even = jnp.zeros((1, 2, 2)), jnp.zeros((2, 2))
        >>> never = jnp.array([[-jnp.inf, 0.0], [0.0, 0.0]])
        >>> crf_marginal_kl(even, (even[0], never)).round(4)  # 01, 10, 11 are left: (1/3, 2/3) twice
        Array([0.1133], dtype=float32)
    """
    e, a, f, b = at_least_float32(*student, *teacher)
    logq, logp = (
        log_softmax(softened(crf.log_marginals(x, pairs, mask), temperature)) for x, pairs in ((e, a), (f, b))
    )
    values = squared(temperature, logq) * divergence(logp, logq)
    return jnp.sum(values if mask is None else jnp.where(mask, values, 0), 1)
