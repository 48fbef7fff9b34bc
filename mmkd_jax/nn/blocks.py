"""Pre-norm Transformer blocks for small encoders of any modality, inside a module's `__call__`.

Their variables are those of Flax's unnamed layers in the encoder's own scope. Rows and tokens share one axis between
the taps, so that XLA on CPU emits plain matrix products, also backward.
"""

import flax.linen as nn
from jaxtyping import Array, Bool, Float

from mmkd_jax.core.model import Taps
from mmkd_jax.errors import UserError
from mmkd_jax.nn.transformer import attend


def transformer_blocks(
    x: Float[Array, "b l d"], mask: Bool[Array, "b l"] | None, num_layers: int, num_heads: int, modality: str, tap: Taps
) -> Float[Array, "b l d"]:
    """Apply pre-norm Transformer blocks with an MLP of four times the dimension of the tokens, and a final LayerNorm.

    Formula: x ← x + MHA(LN(x)); x ← x + W₂ GELU(W₁ LN(x)); LN(x)

    Args:
        x: embedded tokens, the output `hidden.M.0`.
        mask: valid tokens; None is all.
        num_layers: number of blocks. Block i outputs `hidden.M.i+1`; `queries.M.i`, `keys.M.i` and `values.M.i`
            [b, l, d], heads concatenated; `scores.M.i` [b, heads, q, k], before mask and softmax; `attentions.M.i`,
            after both. The result is `tokens.M`.
        num_heads: number of attention heads.
        modality: M, the name of the modality.
        tap: Taps of the model.

    Returns:
        Encoded tokens [b, l, d].

    Raises:
        UserError: the number of heads does not divide the dimension of the tokens.
    """
    shape, x = x.shape, x.reshape(-1, x.shape[-1])
    if shape[-1] % num_heads:
        raise UserError(f"{modality}: num_heads is {num_heads}; expected a divisor of embed_dim, {shape[-1]}")
    for i in range(num_layers):
        x = x + _attention(nn.LayerNorm()(x), shape, mask, num_heads, f"{modality}.{i}", tap)
        h = nn.gelu(nn.Dense(4 * shape[-1])(nn.LayerNorm()(x)), approximate=False)
        x = tap(f"hidden.{modality}.{i + 1}", (x + nn.Dense(shape[-1])(h)).reshape(shape)).reshape(x.shape)
    return tap(f"tokens.{modality}", nn.LayerNorm()(x).reshape(shape))


def _attention(x, shape, mask, num_heads, layer, tap) -> Float[Array, "n d"]:
    b, length, d = shape
    heads = (num_heads, d // num_heads)

    def projected(name):  # tapped with the heads concatenated
        return tap(f"{name}.{layer}", nn.DenseGeneral(heads)(x).reshape(shape)).reshape(b, length, *heads)

    q, k, v = projected("queries"), projected("keys"), projected("values")
    attendable = None if mask is None else mask[:, None, None, :]
    mixed = attend(q, k, v, attendable, lambda name, y: tap(f"{name}.{layer}", y))
    return nn.DenseGeneral(d, (-2, -1))(mixed.reshape(-1, *heads))
