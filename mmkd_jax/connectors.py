"""Connectors: modules that bring a student's features to the teacher's shape. Called like models: `(x, ctx)`."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mmkd_jax import convolution
from mmkd_jax.batch_norm import BatchNorm
from mmkd_jax.views import Context


class Linear(nn.Module):
    """A linear map of the last axis.

    Attributes:
        width: of the result.
        batch_norm: normalise the result over the batch.
    """

    width: int
    batch_norm: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "b ... d"], ctx: Context) -> Float[Array, "b ... e"]:
        return _normalised(nn.Dense(self.width, use_bias=not self.batch_norm)(x), self.batch_norm, ctx)


class MLP(nn.Module):
    """Two layers with a ReLU between them, on the last axis.

    Attributes:
        width: of the result.
        hidden: of the layer between; `width` if 0.
        batch_norm: normalise the hidden layer over the batch.
    """

    width: int
    hidden: int = 0
    batch_norm: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "b ... d"], ctx: Context) -> Float[Array, "b ... e"]:
        x = nn.Dense(self.hidden or self.width, use_bias=not self.batch_norm)(x)
        return nn.Dense(self.width)(nn.relu(_normalised(x, self.batch_norm, ctx)))


class Each(nn.Module):
    """A connector for each of several layers, such as `Each((Linear(8), Linear(8)))`.

    Attributes:
        connectors: as many as there are layers.
    """

    connectors: tuple[nn.Module, ...]

    def __call__(self, layers: tuple[Float[Array, "b ..."], ...], ctx: Context) -> tuple[Float[Array, "b ..."], ...]:
        return tuple(connect(x, ctx) for connect, x in zip(self.connectors, layers, strict=True))


class Conv(nn.Module):
    """A convolution of a feature map.

    Attributes:
        width: channels of the result.
        kernel: size of the window.
        stride: of the window.
        batch_norm: normalise the result over the batch and apply ReLU, as FitNets' regressor does.
    """

    width: int
    kernel: int = 1
    stride: int = 1
    batch_norm: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], ctx: Context) -> Float[Array, "b i j d"]:
        size, edge = (self.kernel, self.kernel), ((self.kernel - 1) // 2, self.kernel // 2)
        # the same at both edges: "SAME" depends on the stride
        x = convolution.Conv(self.width, size, self.stride, padding=(edge, edge), use_bias=not self.batch_norm)(x)
        return nn.relu(_normalised(x, True, ctx)) if self.batch_norm else x


class Bottleneck(nn.Module):
    """1×1, 3×3 and 1×1 convolutions of a feature map, or three linear maps of rows, with BatchNorm and ReLU between.

    Attributes:
        width: of the result.
        hidden: of the layers between.
        activated: BatchNorm and ReLU follow the last layer, too.
    """

    width: int
    hidden: int
    activated: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "b *hw c"], ctx: Context) -> Float[Array, "b *hw d"]:
        for i, (width, kernel) in enumerate(((self.hidden, 1), (self.hidden, 3), (self.width, 1))):
            layer = (
                nn.Dense(width, use_bias=False)
                if x.ndim == 2
                else convolution.Conv(width, (kernel, kernel), use_bias=False)
            )
            x = layer(x)
            x = nn.relu(_normalised(x, True, ctx)) if i < 2 or self.activated else x
        return x


class ABF(nn.Module):
    """ReviewKD's attention-based fusion of a feature map with what deeper stages left.

    Formula: z = BN(W₁ x), (a, b) = σ(W_a [z, r]), r' = a z + b r, result = BN(W₃ ∗ r'); r' goes on to the next stage

    Attributes:
        width: channels of z and of the residual r.
        channels: of the result.
        size: height and width of the result and of the residual that goes on; the map's own by default.
    """

    width: int
    channels: int
    size: tuple[int, int] | None = None

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], residual: Float[Array, "b i j d"] | None, ctx: Context
    ) -> tuple[Float[Array, "b k l e"], Float[Array, "b k l d"]]:
        x = _normalised(convolution.Conv(self.width, (1, 1), use_bias=False, name="inward")(x), True, ctx)
        if residual is not None:
            residual = nearest(residual, (x.shape[1], x.shape[2]))
            both = jnp.concatenate([x, residual], -1)
            share = jax.nn.sigmoid(convolution.Conv(2, (1, 1), name="attention")(both))
            x = x * share[..., :1] + residual * share[..., 1:]
        if self.size is not None:
            x = nearest(x, self.size)
        return _normalised(convolution.Conv(self.channels, (3, 3), use_bias=False, name="outward")(x), True, ctx), x


def nearest(x: Float[Array, "b h w c"], size: tuple[int, int]) -> Float[Array, "b i j c"]:
    """A feature map in another size: place i of m shows place ⌊i n / m⌋ of n."""
    for axis, (n, m) in enumerate(zip(x.shape[1:3], size, strict=True), 1):
        if n != m:
            x = jnp.take(x, jnp.arange(m) * n // m, axis)
    return x


def as_map(x: Float[Array, "b *hw c"]) -> Float[Array, "b h w c"]:
    """Features as a map: tokens [b, l, d] are l × 1, rows [b, d] are 1 × 1."""
    return x.reshape(*x.shape[:-1], *[1] * (4 - x.ndim), x.shape[-1])


class Resampler(nn.Module):
    """Any number of tokens as a fixed number: learned queries look at them (Perceiver, Flamingo).

    Tokens come alone or with their mask, as from `student=("student.hidden.text.1", "batch.text.mask")`; what stands
    outside the mask changes nothing.

    Attributes:
        tokens: number of tokens of the result.
        width: of the result; a multiple of `heads`.
        heads: of each attention.
        layers: rounds of attention and MLP.
    """

    tokens: int
    width: int
    heads: int = 4
    layers: int = 1

    @nn.compact
    def __call__(
        self, x: Float[Array, "b l d"] | tuple[Float[Array, "b l d"], Bool[Array, "b l"]], ctx: Context
    ) -> Float[Array, "b n e"]:
        x, mask = x if isinstance(x, tuple) else (x, jnp.ones(x.shape[:2], bool))
        x = nn.LayerNorm()(jnp.where(mask[..., None], x, jnp.zeros((), x.dtype)))
        queries = self.param("queries", nn.initializers.normal(0.02), (self.tokens, self.width))
        y = jnp.broadcast_to(queries.astype(x.dtype), (len(x), *queries.shape))
        for _ in range(self.layers):
            y = y + self._look(nn.LayerNorm()(y), x, mask)
            h = nn.gelu(nn.Dense(4 * self.width)(nn.LayerNorm()(y)), approximate=False)
            y = y + nn.Dense(self.width)(h)
        return nn.LayerNorm()(y)

    def _look(self, y: Float[Array, "b n e"], x: Float[Array, "b l d"], mask: Bool[Array, "b l"]):
        each = self.width // self.heads
        q, k, v = (nn.DenseGeneral((self.heads, each))(z) for z in (y, x, x))
        score = jnp.einsum("bnhk,blhk->bhnl", q, k) * each**-0.5
        seen = mask[:, None, None, :]
        weights = jax.nn.softmax(jnp.where(seen, score, jnp.finfo(score.dtype).min), -1)
        weights = jnp.where(seen, weights, jnp.zeros((), weights.dtype))  # no token at all: no weight
        return nn.DenseGeneral(self.width, (-2, -1))(jnp.einsum("bhnl,blhk->bnhk", weights, v))


def _normalised(x, batch_norm: bool, ctx: Context):
    if not batch_norm:
        return x
    return BatchNorm(momentum=0.9)(x, ctx)
