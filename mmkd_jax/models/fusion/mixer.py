"""MLP-Mixer over modalities."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from mmkd_jax.core.model import Taps
from mmkd_jax.models.fusion._inputs import Features, Fusion, Present, in_order
from mmkd_jax.nn.activations import activation
from mmkd_jax.typing import Count


class Mixer(Fusion):
    """MLP-Mixer over modalities: an MLP across modalities, then one across channels, in each layer.

    Formula: x_m = V_m f_m + b_m; x ← x + (W₂ gelu(W₁ LN(x)ᵀ))ᵀ, x ← x + W₄ gelu(W₃ LN(x)) in each layer;
        fused = mean_m LN(x)_m

    The token of an absent modality is a learned vector. If none is present, the result is a learned constant.

    Outputs: `mixer.i` [b, m, d], the tokens after i layers, with modalities in alphabetical order

    Attributes:
        width: width of the tokens.
        layers: number of layers.
        expand: width of the MLPs' hidden layers, as a multiple of their inputs.

    Source: Tolstikhin et al., MLP-Mixer: An all-MLP Architecture for Vision, 2021, https://arxiv.org/abs/2105.01601,
        with modalities in place of patches

    Example:
        >>> import jax
        >>> features, here = {"image": jnp.ones((2, 3)), "audio": jnp.ones((2, 5))}, jnp.ones(2, bool)
        >>> inputs = (features, {"image": here, "audio": here}, Taps({}))
        >>> Mixer(8).init_with_output(jax.random.key(0), *inputs)[0].shape
        (2, 8)
    """

    width: Count = 64
    layers: Count = 1
    expand: Count = 2

    @nn.compact
    def __call__(self, features: Features, present: Present, tap: Taps) -> Float[Array, "b d"]:
        inputs, mask = in_order(features, present)
        tokens = [nn.Dense(self.width, dtype=x.dtype, name=f"value_{m}")(x) for m, x in inputs.items()]
        absent = jnp.stack([self.param(f"absent_{m}", nn.initializers.normal(1.0), (self.width,)) for m in inputs])
        x = jnp.stack(tokens, 1)
        x = tap("mixer.0", jnp.where(mask[..., None], x, absent.astype(x.dtype)[None]))

        def norm(name, x):
            return nn.LayerNorm(1e-6, dtype=x.dtype, name=name)(x)

        def mlp(name, x):
            y = nn.Dense(self.expand * x.shape[-1], dtype=x.dtype, name=f"{name}_grow")(x)
            return nn.Dense(x.shape[-1], dtype=x.dtype, name=f"{name}_shrink")(activation("gelu")(y))

        for i in range(self.layers):
            across = jnp.swapaxes(norm(f"norm_modalities_{i}", x), 1, 2)
            x = x + jnp.swapaxes(mlp(f"modalities_{i}", across), 1, 2)
            x = tap(f"mixer.{i + 1}", x + mlp(f"channels_{i}", norm(f"norm_channels_{i}", x)))
        return jnp.mean(norm("norm", x), 1)
