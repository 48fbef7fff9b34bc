"""Long short-term memory (LSTM) as a pure function of its gate inputs."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array, Bool, Float


def lstm(
    inward: Float[Array, "b l g"], recurrent: Float[Array, "d g"], mask: Bool[Array, "b l"], forget: float = 0.0
) -> Float[Array, "b l d"]:
    """Return the hidden states h of an LSTM; masked steps leave the state unchanged.

    Formula: i, f, g, o = inward + h R; c ← σ(f + forget) c + σ(i) tanh(g); h ← σ(o) tanh(c)

    Args:
        inward: input contribution to the four gates, biases included; g = 4 d.
        recurrent: recurrent weights R.
        mask: valid steps.
        forget: bias of the forget gate.

    Source: Hochreiter and Schmidhuber, Long Short-Term Memory, 1997, https://doi.org/10.1162/neco.1997.9.8.1735

    Example:
        >>> lstm(jnp.zeros((1, 3, 8)), jnp.zeros((2, 8)), jnp.ones((1, 3), bool)).shape
        (1, 3, 2)
    """

    def cell(carry, step):  # with lax.scan: nn.RNN does not export
        c, h = carry
        gates, valid = step
        i, f, g, o = jnp.split((gates + h @ recurrent).astype(c.dtype), 4, -1)
        new_c = nn.sigmoid(f + forget) * c + nn.sigmoid(i) * jnp.tanh(g)
        new_h = (nn.sigmoid(o) * jnp.tanh(new_c)).astype(h.dtype)
        valid = valid[:, None]
        c, h = jnp.where(valid, new_c, c), jnp.where(valid, new_h, h)
        return (c, h), h

    start = jnp.zeros((inward.shape[0], recurrent.shape[0]), inward.dtype)
    wide = jnp.promote_types(inward.dtype, jnp.float32)  # the cell accumulates over all steps
    times = (rearrange(inward, "b l g -> l b g"), rearrange(mask, "b l -> l b"))
    return rearrange(jax.lax.scan(cell, (start.astype(wide), start), times)[1], "l b d -> b l d")
