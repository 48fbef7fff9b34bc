"""WavLM audio encoder on raw waveforms: `(batch, modality, ctx, tap) -> features` [b, d]."""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from mmkd_jax.core.model import StepContext, Taps
from mmkd_jax.models.wav2vec2 import Wav2Vec2
from mmkd_jax.nn.relative import relative_buckets
from mmkd_jax.nn.transformer import Layer, Transformer
from mmkd_jax.typing import Shape


class WavLM(Wav2Vec2):
    """WavLM: wav2vec 2.0 with a bias of the scores by relative position, shared by all layers and gated in each.

    Formula: score[q, s] += g[q] R[bucket(s − q)] for each head; g as in `GatedLayer`

    Outputs are those of `Wav2Vec2`; `scores.M.i` include the bias.

    Attributes:
        buckets: number of buckets of relative positions.
        bucket_reach: distance from which on all have the last bucket.

    The other attributes are those of `Wav2Vec2`.

    Source: Chen et al., WavLM, 2021, https://arxiv.org/abs/2110.13900
    """

    buckets: int = 320
    bucket_reach: int = 800

    @nn.nowrap
    def stack(
        self,
        x: Float[Array, "b t d"],
        mask: Bool[Array, "b t"],
        rows: Int[Array | np.ndarray, " b"],
        modality: str,
        ctx: StepContext,
        tap: Taps,
    ) -> Float[Array, "b t d"]:
        """Apply the layers, with the arguments of `nn.transformer.Transformer`."""
        config = self.config
        index = jnp.asarray(relative_buckets(x.shape[1], self.buckets, self.bucket_reach))
        table = nn.Embed(self.buckets, config.num_heads, dtype=config.dtype, name="relative")
        bias = table(index).transpose(2, 0, 1)[None]
        layers = Transformer(config, partial(GatedLayer, pre_norm=self.pre_norm), name="transformer")
        return layers(x, mask, rows, modality, ctx, tap, lambda i: (bias,))


class GatedLayer(Layer):
    """Transformer layer that gates the bias of its scores by the content of each query.

    Formula: g = σ(a) (σ(b) c − 1) + 2 for each head, with a and b sums of four outputs of a dense layer on the head's
        channels of the attention's input

    Variables, in addition to those of `Layer`: `gate`, the dense layer of all heads; `gate_scale`, c.
    """

    @nn.nowrap
    def attention(
        self,
        x: Float[Array, "*b d"],
        shape: Shape,
        mask: Bool[Array, "..."] | None,
        rows: Int[Array | np.ndarray, " b"],
        ctx: StepContext,
        tap: Taps,
        scope: str = "",
        positions: Any = None,
    ) -> Float[Array, "b ... d"]:
        """Apply self-attention, as a residual branch.

        Args:
            x: tokens, of the given shape or with the leading axes as one.
            shape: shape of the result, [b, l, d].
            mask: which keys each query attends to, broadcast to the scores; None is all.
            rows: `example_id`, by which dropout masks are keyed.
            ctx: step context.
            tap: Taps of the layer.
            scope: prefix of the names of variables and intermediates.
            positions: bias of the scores before the gate, [1, n, q, s].
        """
        n = self.config.num_heads
        c = self.param("gate_scale", nn.initializers.ones, (n,)).astype(x.dtype)
        y = self.dense("gate", 8, x.reshape(*shape[:-1], n, shape[-1] // n))
        a, b = jnp.moveaxis(jax.nn.sigmoid(y.reshape(*y.shape[:-1], 2, 4).sum(-1)), -1, 0)
        gate = a * (b * c[None, None] - 1) + 2  # [b, l, n]
        bias = jnp.moveaxis(gate, -1, 1)[..., None] * positions
        return super().attention(x, shape, mask, rows, ctx, tap, scope, bias)
