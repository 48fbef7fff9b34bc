"""The attention layer of fusions of tokens, and their dense layers."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mmkd_jax.nn.transformer import attend


class AttentionLayer(nn.Module):
    """Pre-norm Transformer layer whose keys and values may be other tokens (cross-attention); without dropout.

    Formula: x ← x + W MHA(LN(x), LN(y)), with y = x for self-attention; x ← x + W₂ GELU(W₁ LN(x))

    A row whose every key is masked has zero attention: MHA is 0 there, not the mean of what is masked.

    Variables: `norm_queries`, `norm_keys` for cross-attention, `query`, `key`, `value`, `out`, `norm_output`, `grow`
    (W₁), `shrink` (W₂).

    Attributes:
        heads: number of attention heads; must divide the dimension of the tokens.
    """

    heads: int

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b q d"],
        y: Float[Array, "b s e"] | None,
        mask: Bool[Array, "b s"] | None,
        tap: Callable[[Array], Array],
    ) -> Float[Array, "b q d"]:
        """Return the tokens.

        Args:
            x: tokens that attend.
            y: tokens that they attend to; None is themselves.
            mask: which of these are valid; None is all.
            tap: applied to the attention weights [b, heads, q, s].
        """
        d, dtype = x.shape[-1], x.dtype

        def norm(name: str, z: Float[Array, "b l e"]) -> Float[Array, "b l e"]:
            return nn.LayerNorm(dtype=dtype, name=name)(z)

        def heads(name: str, z: Float[Array, "b l e"]) -> Float[Array, "b l n k"]:
            # a bias of the keys would shift all scores of a query, which its softmax undoes
            return dense(name, d, z, bias=name != "key").reshape(*z.shape[:-1], self.heads, d // self.heads)

        valid = None if mask is None else mask[:, None, None]

        def watch(name: str, weights: Float[Array, "b n q s"]) -> Float[Array, "b n q s"]:
            if name != "attentions":
                return weights
            return tap(weights if valid is None else jnp.where(valid, weights, jnp.zeros((), dtype)))

        queries = norm("norm_queries", x)
        keys = queries if y is None else norm("norm_keys", y)
        mixed = attend(heads("query", queries), heads("key", keys), heads("value", keys), valid, watch)
        x = x + dense("out", d, mixed.reshape(x.shape))
        grown = nn.gelu(dense("grow", 4 * d, norm("norm_output", x)), approximate=False)
        return x + dense("shrink", d, grown)


def dense(name: str, width: int, x: Float[Array, "b l d"], bias: bool = True) -> Float[Array, "b l w"]:
    """Apply the dense layer `name` of the calling module to each token."""
    flat: jax.Array = nn.Dense(width, bias, dtype=x.dtype, name=name)(x.reshape(-1, x.shape[-1]))
    return flat.reshape(*x.shape[:-1], width)
