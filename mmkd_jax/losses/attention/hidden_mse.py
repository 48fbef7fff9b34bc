"""Hidden states of transformers."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from mmkd_jax.losses.checked import checked
from mmkd_jax.losses.numeric import at_least_float32


@checked
def hidden_mse(student: Float[Array, "*n d"], teacher: Float[Array, "*n d"]) -> Float[Array, "*n"]:
    """Hidden states of TinyBERT: mean squared difference of each token's vector, also of embeddings.

    Formula: (1 / d) Σ_i (s_i − t_i)²

    A mask of the tokens is the term's: `where="text.mask"`.

    Args:
        student: hidden states s, [b, l, d]; a connector brings them to the teacher's width.
        teacher: hidden states t, [b, l, d].

    Returns:
        Values [b, l], one per token.

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
