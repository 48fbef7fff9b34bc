"""Dropout with masks keyed by example, not by position in the batch."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mmkd_jax.core.model import StepContext


class Dropout(nn.Module):
    """Dropout keyed by `example_id`: masks are invariant to batch order, batch size, sharding and microbatching.

    Attributes:
        rate: dropout rate in training.
    """

    rate: float

    @nn.compact
    def __call__(
        self, x: Float[Array, "b ..."], ctx: StepContext, example_id: Int[Array | np.ndarray, " b"]
    ) -> Float[Array, "b ..."]:
        if not ctx.train or self.rate == 0:
            return x
        key = ctx.at("/".join(self.path)).key
        keep = jax.vmap(lambda i: jax.random.bernoulli(jax.random.fold_in(key, i), 1 - self.rate, x.shape[1:]))
        return jnp.where(keep(example_id), x / (1 - self.rate), jnp.zeros((), x.dtype))
