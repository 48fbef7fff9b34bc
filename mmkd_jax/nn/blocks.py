"""Pre-norm Transformer blocks for encoders of any modality, inside a module's `__call__`.

Rows and tokens share one axis between the taps, so that XLA on CPU emits plain matrix products, also backward.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mmkd_jax.core.model import Taps


def transformer_blocks(
    x: Float[Array, "b l d"], mask: Bool[Array, "b l"] | None, layers: int, heads: int, modality: str, tap: Taps
) -> Float[Array, "b l d"]:
    """Apply pre-norm Transformer blocks with an MLP of four times the width, and a final LayerNorm.

    Formula: x ← x + MHA(LN(x)); x ← x + W₂ GELU(W₁ LN(x)); LN(x)

    Args:
        x: embedded tokens, the output `hidden.M.0`.
        mask: valid tokens; None is all.
        layers: number of blocks. Block i outputs `hidden.M.i+1`; `queries.M.i`, `keys.M.i` and `values.M.i` [b, l, d],
            heads concatenated; `scores.M.i` [b, heads, q, k], before mask and softmax; `attentions.M.i`, after both.
        heads: number of attention heads.
        modality: M, the name of the modality.
        tap: Taps of the model.

    Returns:
        Encoded tokens [b, l, d].
    """
    shape, x = x.shape, x.reshape(-1, x.shape[-1])
    for i in range(layers):
        x = x + _attention(nn.LayerNorm()(x), shape, mask, heads, f"{modality}.{i}", tap)
        h = nn.gelu(nn.Dense(4 * shape[-1])(nn.LayerNorm()(x)), approximate=False)
        x = tap(f"hidden.{modality}.{i + 1}", (x + nn.Dense(shape[-1])(h)).reshape(shape)).reshape(x.shape)
    return nn.LayerNorm()(x).reshape(shape)


def _attention(x, shape, mask, heads, layer, tap) -> Float[Array, "n d"]:
    b, length, d = shape

    def projected(name):  # tapped with the heads concatenated
        vectors = nn.DenseGeneral((heads, d // heads))(x)
        return tap(f"{name}.{layer}", vectors.reshape(shape)).reshape(b, length, heads, d // heads)

    q, k, v = projected("queries"), projected("keys"), projected("values")
    score = tap(f"scores.{layer}", jnp.einsum("bqnk,bsnk->bnqs", q, k) * (d // heads) ** -0.5)
    if mask is not None:  # finite, so that a row without tokens is not NaN
        score = jnp.where(mask[:, None, None, :], score, jnp.finfo(score.dtype).min)
    weights = tap(f"attentions.{layer}", jax.nn.softmax(score, -1))
    mixed = jnp.einsum("bnqs,bsnk->bqnk", weights, v).reshape(b * length, heads, d // heads)
    return nn.DenseGeneral(d, (-2, -1))(mixed)
