"""Pre-norm Transformer blocks, for encoders of any modality; inside a module's `__call__`.

Rows and tokens are one axis between the taps: on CPU, XLA makes plain matrix products of it, also backward.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mmkd_jax.views import Taps


def transformer_blocks(
    x: Float[Array, "b l d"], mask: Bool[Array, "b l"] | None, layers: int, heads: int, modality: str, tap: Taps
) -> Float[Array, "b l d"]:
    """Attention and a layer of four times the width, `layers` times, and a last LayerNorm.

    Formula: x ← x + MHA(LN(x)); x ← x + W₂ GELU(W₁ LN(x)); LN(x)

    Args:
        x: embedded tokens, the output `hidden.M.0`.
        mask: which tokens are there; all, if None.
        layers: number of blocks; block i gives `hidden.M.i+1`, and besides `queries.M.i`, `keys.M.i` and `values.M.i`
            [b, l, d] with the heads side by side, `scores.M.i` [b, heads, q, k] before mask and softmax, and
            `attentions.M.i` after both.
        heads: of each attention.
        modality: M.
        tap: of the model.

    Returns:
        Values [b, l, d].
    """
    shape, x = x.shape, x.reshape(-1, x.shape[-1])
    for i in range(layers):
        x = x + _attention(nn.LayerNorm()(x), shape, mask, heads, f"{modality}.{i}", tap)
        h = nn.gelu(nn.Dense(4 * shape[-1])(nn.LayerNorm()(x)), approximate=False)
        x = tap(f"hidden.{modality}.{i + 1}", (x + nn.Dense(shape[-1])(h)).reshape(shape)).reshape(x.shape)
    return nn.LayerNorm()(x).reshape(shape)


def _attention(x, shape, mask, heads, layer, tap) -> Float[Array, "n d"]:
    b, length, d = shape

    def projected(name):  # tapped with the heads side by side
        vectors = nn.DenseGeneral((heads, d // heads))(x)
        return tap(f"{name}.{layer}", vectors.reshape(shape)).reshape(b, length, heads, d // heads)

    q, k, v = projected("queries"), projected("keys"), projected("values")
    score = tap(f"scores.{layer}", jnp.einsum("bqnk,bsnk->bnqs", q, k) * (d // heads) ** -0.5)
    if mask is not None:  # finite: a row without tokens is no NaN
        score = jnp.where(mask[:, None, None, :], score, jnp.finfo(score.dtype).min)
    weights = tap(f"attentions.{layer}", jax.nn.softmax(score, -1))
    mixed = jnp.einsum("bnqs,bsnk->bqnk", weights, v).reshape(b * length, heads, d // heads)
    return nn.DenseGeneral(d, (-2, -1))(mixed)
