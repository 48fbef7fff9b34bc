"""Gram matrices between two transformer layers."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mmkd_jax.losses.attention._pairs import masked_mean, token_pairs
from mmkd_jax.numeric import at_least_float32, inner, mean_square
from mmkd_jax.validation import validated


@validated
def token_fsp(
    student: tuple[Float[Array, "b l d"], Float[Array, "b l e"]],
    teacher: tuple[Float[Array, "b l d"], Float[Array, "b l e"]],
    *,
    mask: Bool[Array, "b l"] | None = None,
) -> Float[Array, " b"]:
    """Flow of the solution procedure (FSP) over tokens: MSE of Gram matrices between two layers' dimensions.

    Formula: mean_ij (G_s − G_t)²_ij, G = Xᵀ Y / L, X and Y the hidden states of two layers

    Args:
        student: hidden states (X, Y) of two layers, [b, l, d] and [b, l, e].
        teacher: hidden states of the teacher, in the same widths.
        mask: mask of valid tokens, [b, l]; L is the number of valid tokens in each example.

    Returns:
        Per-example loss, [b].

    Compares: hidden states of two layers
    Extra: a connector if the widths differ
    Source: Yang et al., TextBrewer, 2020, https://arxiv.org/abs/2002.12620

    Example:
        >>> x = jnp.array([[[1.0, 2.0], [3.0, 0.0]]])
        >>> token_fsp((x, x), (x, x), mask=jnp.array([[True, False]]))
        Array([0.], dtype=float32)
    """
    arrays = at_least_float32(*student, *teacher)
    tokens = jnp.ones(arrays[0].shape[:2], bool) if mask is None else mask
    length = jnp.maximum(jnp.sum(tokens, 1).astype(arrays[0].dtype), 1)[:, None, None]

    def gram(x, y):
        x, y = (jnp.swapaxes(jnp.where(tokens[..., None], z, 0), 1, 2) for z in (x, y))
        return inner(x, y) / length

    return mean_square(gram(*arrays[:2]) - gram(*arrays[2:]))


@validated
def token_nst(
    student: tuple[Float[Array, "b l d"], Float[Array, "b l d"]],
    teacher: tuple[Float[Array, "b l e"], Float[Array, "b l e"]],
    *,
    mask: Bool[Array, "b l"] | None = None,
) -> Float[Array, " b"]:
    """Neuron selectivity transfer (NST) over tokens: MSE of Gram matrices between the tokens of two layers.

    Formula: mean_ij (G_s − G_t)²_ij, G = X Yᵀ / D, over valid token pairs

    Args:
        student: hidden states (X, Y) of two layers, or of one layer twice, each [b, l, d].
        teacher: hidden states of the teacher, each [b, l, e].
        mask: mask of valid tokens, [b, l].

    Returns:
        Per-example loss, [b]; 0 if no token is valid.

    Compares: hidden states of two layers
    Extra: none
    Source: Yang et al., TextBrewer, 2020, https://arxiv.org/abs/2002.12620
    Differs: TextBrewer weights an example by its length squared; here, examples have equal weight

    Example:
        >>> x = jnp.array([[[1.0], [3.0]]])
        >>> token_nst((x, x), (x.repeat(2, -1), x.repeat(2, -1)))
        Array([0.], dtype=float32)
    """
    arrays = at_least_float32(*student, *teacher)
    tokens = jnp.ones(arrays[0].shape[:2], bool) if mask is None else mask
    arrays = [jnp.where(tokens[..., None], x, 0) for x in arrays]

    def gram(x, y):
        return inner(x, y) / x.shape[-1]

    gap = gram(*arrays[:2]) - gram(*arrays[2:])
    return masked_mean((gap * gap)[:, None], token_pairs(tokens))
