"""Channel-wise distillation."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from mmkd_jax.numeric import at_least_float32, divergence, log_softmax, softened, squared
from mmkd_jax.typing import Positive
from mmkd_jax.validation import validated


@validated
def cwd(
    student: Float[Array, "b h w c"], teacher: Float[Array, "b h w c"], *, temperature: Positive = 1.0
) -> Float[Array, " b"]:
    """Channel-wise distillation (CWD): KL between each channel's distributions over positions.

    Formula: (T² / C) Σ_c Σ_i p_ci log(p_ci / q_ci), p_c = softmax_i(t_ic / T), q_c = softmax_i(s_ic / T)

    Args:
        student: feature or logit map s, [b, h, w, c]; use a connector to match the teacher's channels.
        teacher: feature or logit map t, [b, h, w, c].
        temperature: T > 0, a scalar or one value per example.

    Returns:
        Per-example loss, [b], scaled by T².

    Compares: feature or logit maps of equal size
    Extra: usually a connector
    Source: Shu et al., Channel-wise Knowledge Distillation for Dense Prediction, 2021, https://arxiv.org/abs/2011.13256

    Example:
        >>> cwd(jnp.ones((1, 2, 2, 3)), 2 * jnp.ones((1, 2, 2, 3)), temperature=4.0)
        Array([0.], dtype=float32)
    """
    student, teacher = at_least_float32(student, teacher)
    student, teacher = (jnp.swapaxes(x.reshape(len(x), -1, x.shape[-1]), 1, 2) for x in (student, teacher))
    logp, logq = (log_softmax(softened(x, temperature)) for x in (teacher, student))
    return jnp.mean(squared(temperature, student) * divergence(logp, logq), 1)
