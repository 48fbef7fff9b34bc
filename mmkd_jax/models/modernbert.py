"""ModernBERT text encoder: `(batch, modality, ctx, tap) -> features` [b, d]."""

from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from mmkd_jax.core.model import Batch, StepContext, Taps
from mmkd_jax.models._text import text_features, token_inputs, token_sample
from mmkd_jax.nn.activations import activation
from mmkd_jax.nn.dropout import Dropout
from mmkd_jax.nn.transformer import PROJECTIONS, Layer, Transformer, TransformerConfig, attend
from mmkd_jax.typing import Shape


class ModernBert(nn.Module):
    """ModernBERT: a pre-norm Transformer encoder with rotary positions, most of whose layers attend to a window.

    Formula: x₀ = LN(E[token]); the layers of `nn.transformer`, with a gated MLP, and queries and keys rotated by their
        positions; LN. Layer 0 has no LayerNorm before its attention

    Outputs, in addition to those of the layers: `hidden.M.0`, the embedded tokens; `tokens.M`, the last tokens after
    the last LayerNorm; `tokens_mask.M`, their mask. `queries.M.i` and `keys.M.i` are those before rotation.

    Attributes:
        vocabulary: number of token ids.
        config: sizes and options of the layers; the default is ModernBERT base's. `bias` includes the attention's
            output.
        length: maximum number of tokens.
        every: layers 0, `every`, 2 `every`, … attend to all tokens.
        window: width of the window of the other layers; keys at a distance of at most half of it are attended to.
        theta: base of the wavelengths of rotation in the layers that attend to all tokens.
        window_theta: base of the wavelengths in the other layers.
        norm_bias: add a bias to the LayerNorms.
        mlp_bias: add a bias to the layers of the MLP.
        embedding_dropout: dropout rate of the embedded tokens.
        pool: features: "mean" over the unmasked tokens, or the "first" token.

    Source: Warner et al., Smarter, Better, Faster, Longer (ModernBERT), 2024, https://arxiv.org/abs/2412.13663; Su et
        al., RoFormer, 2021, https://arxiv.org/abs/2104.09864
    """

    vocabulary: int
    config: TransformerConfig = TransformerConfig(
        embed_dim=768, num_layers=22, num_heads=12, mlp_dim=1152, eps=1e-5, bias=False, gated_mlp=True
    )
    length: int = 8192
    every: int = 3
    window: int = 128
    theta: float = 160_000.0
    window_theta: float = 10_000.0
    norm_bias: bool = False
    mlp_bias: bool = False
    embedding_dropout: float = 0.0
    pool: str = "mean"

    @nn.nowrap
    def sample(self, modality: str) -> dict[str, Array]:
        """Return the smallest valid batch, for shape inference."""
        return token_sample(modality)

    @nn.compact
    def __call__(self, batch: Batch, modality: str, ctx: StepContext, tap: Taps) -> Float[Array, "b d"]:
        config, rows = self.config, batch["example_id"]
        ids, mask, _ = token_inputs(batch, modality, self.length, tap)

        def norm(name, x):
            return nn.LayerNorm(config.eps, dtype=config.dtype, use_bias=self.norm_bias, name=name)(x)

        x = norm("norm_embedded", nn.Embed(self.vocabulary, config.embed_dim, dtype=config.dtype, name="tokens")(ids))
        x = tap(f"hidden.{modality}.0", Dropout(self.embedding_dropout, name="dropped")(x, ctx, rows))
        places, size = np.arange(ids.shape[1]), config.embed_dim // config.num_heads
        near = jnp.asarray(np.abs(places[:, None] - places[None]) <= self.window // 2)
        angles, window_angles = (jnp.asarray(_angles(places, size, t)) for t in (self.theta, self.window_theta))

        def positions(i):
            windowed = jnp.asarray(i % self.every != 0)
            turned = jnp.where(windowed, window_angles, angles)
            return ((jnp.cos(turned), jnp.sin(turned), near | ~windowed),)

        layer = partial(RotaryLayer, norm_bias=self.norm_bias, mlp_bias=self.mlp_bias)
        stack = Transformer(config, layer, partial(layer, first=True), name="transformer")
        x = stack(x, mask, rows, modality, ctx, tap, positions)
        x = tap(f"tokens.{modality}", norm("norm", x))
        return text_features(x, mask, modality, tap, config, self.pool)


def _angles(places, size, theta):
    """Angle of each position and pair of channels, [l, size / 2]."""
    frequencies = 1 / np.float32(theta) ** (np.arange(0, size, 2, dtype=np.float32) / np.float32(size))
    return places.astype(np.float32)[:, None] * frequencies[None]


def rotate(x: Float[Array, "b l n k"], cos: Float[Array, "l h"], sin: Float[Array, "l h"]) -> Float[Array, "b l n k"]:
    """Rotate channels i and i + k / 2 of each token by the angle of its position, in float32.

    Example:
        >>> x = jnp.array([1.0, 0.0]).reshape(1, 1, 1, 2)
        >>> rotate(x, jnp.zeros((1, 1)), jnp.ones((1, 1))).ravel().tolist()
        [0.0, 1.0]
    """
    a, b = jnp.split(x.astype(jnp.promote_types(x.dtype, jnp.float32)), 2, -1)
    cos, sin = cos[None, :, None], sin[None, :, None]
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], -1).astype(x.dtype)


class RotaryLayer(Layer):
    """Pre-norm Transformer layer with rotary positions and few biases.

    Attributes:
        norm_bias: add a bias to the LayerNorms.
        mlp_bias: add a bias to the layers of the MLP.
        first: layer 0, without a LayerNorm before its attention.
    """

    pre_norm: bool = True
    norm_bias: bool = False
    mlp_bias: bool = False
    first: bool = False

    @nn.nowrap
    def norm(self, name: str, x: Float[Array, "*b d"]) -> Float[Array, "*b d"]:
        """Apply a LayerNorm; none before the attention of layer 0."""
        if self.first and name == "norm_attention":
            return x
        return nn.LayerNorm(self.config.eps, dtype=self.config.dtype, use_bias=self.norm_bias, name=name)(x)

    @nn.nowrap
    def mlp(self, x: Float[Array, "*b d"]) -> Float[Array, "*b d"]:
        """Apply the gated MLP."""
        gate, value = jnp.split(self.dense("grow", 2 * self.config.mlp_dim, x, self.mlp_bias), 2, -1)
        return self.dense("shrink", x.shape[-1], activation(self.config.activation)(gate) * value, self.mlp_bias)

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
            positions: cosines and sines of the angles of each position, and which keys are near each query.
        """
        cos, sin, near = positions
        d, config = shape[-1], self.config

        def heads(name):  # tapped with the heads concatenated
            y = tap(scope + PROJECTIONS[name], self.dense(scope + name, d, x, config.bias).reshape(shape))
            return y.reshape(*shape[:-1], config.num_heads, d // config.num_heads)

        def drop(name, y):
            return Dropout(config.attention_dropout, name=f"dropout_{scope}{name}")(y, ctx, rows)

        q, k, v = rotate(heads("query"), cos, sin), rotate(heads("key"), cos, sin), heads("value")
        seen = near[None, None] if mask is None else mask & near[None, None]
        mixed = attend(q, k, v, seen, lambda name, y: tap(scope + name, y), partial(drop, "weights")).reshape(-1, d)
        return drop("out", self.dense(f"{scope}out", d, mixed, config.bias).reshape(shape))
