"""Gram matrices between two layers of a transformer."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mmkd_jax.losses.attention.pairs import mean_that_counts, pairs_of
from mmkd_jax.losses.checked import checked
from mmkd_jax.losses.numeric import at_least_float32, inner, mean_square


@checked
def token_fsp(
    student: tuple[Float[Array, "b l d"], Float[Array, "b l e"]],
    teacher: tuple[Float[Array, "b l d"], Float[Array, "b l e"]],
    *,
    mask: Bool[Array, "b l"] | None = None,
) -> Float[Array, " b"]:
    """Flow of the solution procedure (FSP) over tokens: the products of two layers' dimensions.

    Formula: mean_ij (G_s − G_t)²_ij, G = Xᵀ Y / L, X and Y the tokens' vectors in two layers

    Args:
        student: hidden states (X, Y) of two layers, [b, l, d] and [b, l, e].
        teacher: the same of the teacher, in the same widths.
        mask: tokens that count, [b, l]; L is their number in each example.

    Returns:
        Values [b].

    Compares: hidden states of two layers
    Extra: a connector, where widths differ
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


@checked
def token_nst(
    student: tuple[Float[Array, "b l d"], Float[Array, "b l d"]],
    teacher: tuple[Float[Array, "b l e"], Float[Array, "b l e"]],
    *,
    mask: Bool[Array, "b l"] | None = None,
) -> Float[Array, " b"]:
    """Neuron selectivity transfer (NST) over tokens: the products of the tokens in two layers.

    Formula: mean_ij (G_s − G_t)²_ij, G = X Yᵀ / D, over the pairs of tokens that count

    Args:
        student: hidden states (X, Y) of two layers, or of one twice, each [b, l, d].
        teacher: the same of the teacher, each [b, l, e].
        mask: tokens that count, [b, l].

    Returns:
        Values [b]; 0 without a token that counts.

    Compares: hidden states of two layers
    Extra: none
    Source: Yang et al., TextBrewer, 2020, https://arxiv.org/abs/2002.12620
    Differs: TextBrewer weighs an example by its length squared; ours counts each alike

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
    return mean_that_counts((gap * gap)[:, None], pairs_of(tokens))
