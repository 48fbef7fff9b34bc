"""Dropout whose mask belongs to the example, not to its place in the batch."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mmkd_jax.views import Context


class Dropout(nn.Module):
    """Zeroes activations, keyed by `example_id`: the same in any batch order, size, sharding and microbatch.

    Attributes:
        rate: share of zeroed activations in training.
    """

    rate: float

    @nn.compact
    def __call__(
        self, x: Float[Array, "b ..."], ctx: Context, example_id: Int[Array | np.ndarray, " b"]
    ) -> Float[Array, "b ..."]:
        if not ctx.train or self.rate == 0:
            return x
        key = ctx.at("/".join(self.path)).key
        keep = jax.vmap(lambda i: jax.random.bernoulli(jax.random.fold_in(key, i), 1 - self.rate, x.shape[1:]))
        return jnp.where(keep(example_id), x / (1 - self.rate), jnp.zeros((), x.dtype))
