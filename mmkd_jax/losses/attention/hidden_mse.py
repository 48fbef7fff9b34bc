"""Hidden-state transfer of TinyBERT."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from mmkd_jax.numeric import at_least_float32
from mmkd_jax.validation import validated


@validated
def hidden_mse(student: Float[Array, "*n d"], teacher: Float[Array, "*n d"]) -> Float[Array, "*n"]:
    """Hidden-state loss of TinyBERT: mean squared error of each token's hidden state or embedding.

    Formula: (1 / d) Σ_i (s_i − t_i)²

    Mask padding tokens in the term: `where="text.mask"`.

    Args:
        student: hidden states s, [b, l, d]; use a connector to match the teacher's width.
        teacher: hidden states t, [b, l, d].

    Returns:
        Loss per token, [b, l].

    Compares: hidden states
    Extra: usually a connector
    Source: Jiao et al., TinyBERT, 2020, https://arxiv.org/abs/1909.10351

    Example:
        >>> hidden_mse(jnp.array([[[1.0, 3.0], [0.0, 0.0]]]), jnp.array([[[1.0, 1.0], [0.0, 0.0]]]))
        Array([[2., 0.]], dtype=float32)
    """
    student, teacher = at_least_float32(student, teacher)
    gap = student - teacher
    return jnp.mean(gap * gap, -1)
