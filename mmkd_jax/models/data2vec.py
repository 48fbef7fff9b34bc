"""data2vec audio encoder on raw waveforms: `(batch, modality, ctx, tap) -> features` [b, d]."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mmkd_jax.models.wav2vec2 import Positions, Wav2Vec2
from mmkd_jax.nn.activations import activation


class Data2VecAudio(Wav2Vec2):
    """data2vec audio: wav2vec 2.0 with several positional convolutions, each with a LayerNorm.

    Formula: p ← φ(LN(Pᵢ ∗ p)) for each positional convolution, from the frames x; x₀ = LN(x + p)

    The LayerNorms of the positions have no scale and bias. Frames of padding are zero before each convolution.

    Attributes:
        position_layers: number of positional convolutions.

    The other attributes are those of `Wav2Vec2`.

    Source: Baevski et al., data2vec, 2022, https://arxiv.org/abs/2202.03555
    """

    norm: str = "layer"
    reach: int = 19
    position_layers: int = 5

    @nn.nowrap
    def embed_positions(self, x: Float[Array, "b t d"], mask: Bool[Array, "b t"]) -> Float[Array, "b t d"]:
        """Return the output of the last positional convolution.

        Args:
            x: frames, zero outside the mask.
            mask: valid frames.
        """
        for i in range(self.position_layers):
            x = jnp.where(mask[..., None], x, jnp.zeros((), x.dtype))
            x = Positions(self.reach, self.groups, weight_norm=False, name=f"positions_{i}")(x)
            x = nn.LayerNorm(1e-5, use_bias=False, use_scale=False, dtype=self.config.dtype, name=f"position_norm_{i}")(
                x
            )
            x = activation(self.conv_activation)(x)
        return x
