"""Shared and private subspaces."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from mmkd_jax.core.model import Taps
from mmkd_jax.models.fusion._inputs import Features, Fusion, Present, in_order
from mmkd_jax.typing import Count


class Orthogonal(Fusion):
    """Shared and private subspaces: what modalities have in common is averaged, what only one has is kept apart.

    Formula: x_m = V_m f_m + b_m, s_m = σ(S x_m) with one S for all, h_m = σ(P_m x_m);
        fused = [mean_{m present} s_m; h_1; …; h_n], with modalities in alphabetical order: (1 + n) width numbers

    The vectors s and h of an absent modality are 0; s is averaged over those present. If none is present, the result
    is 0. The subspaces differ by loss terms alone, such as `losses.cmd` between the shared vectors of two modalities.

    Outputs: `shared.M` and `private.M` [b, d], s and h of each modality M

    Attributes:
        width: width of the subspaces.

    Source: Hazarika et al., MISA: Modality-Invariant and -Specific Representations for Multimodal Sentiment Analysis,
        2020, https://arxiv.org/abs/2005.03545
    Differs: the paper fuses the vectors by a Transformer layer and normalizes the projections

    Example:
        >>> import jax
        >>> features, here = {"image": jnp.ones((2, 3)), "audio": jnp.ones((2, 5))}, jnp.ones(2, bool)
        >>> inputs = (features, {"image": here, "audio": here}, Taps({}))
        >>> Orthogonal(8).init_with_output(jax.random.key(0), *inputs)[0].shape
        (2, 24)
    """

    width: Count = 64

    @nn.compact
    def __call__(self, features: Features, present: Present, tap: Taps) -> Float[Array, "b d"]:
        inputs, mask = in_order(features, present)
        dtype = next(iter(inputs.values())).dtype
        common, shared, private = nn.Dense(self.width, dtype=dtype, name="shared"), [], []
        for m, x in inputs.items():
            here, zero = present[m][:, None], jnp.zeros((), dtype)
            x = nn.Dense(self.width, dtype=dtype, name=f"value_{m}")(x)
            shared.append(tap(f"shared.{m}", jnp.where(here, nn.sigmoid(common(x)), zero)))
            own = nn.Dense(self.width, dtype=dtype, name=f"private_{m}")(x)
            private.append(tap(f"private.{m}", jnp.where(here, nn.sigmoid(own), zero)))
        count = jnp.maximum(jnp.sum(mask, -1, keepdims=True), 1).astype(dtype)
        return jnp.concatenate([sum(shared) / count, *private], -1)
