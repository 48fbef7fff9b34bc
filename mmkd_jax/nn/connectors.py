"""Connectors: modules `(x, ctx) -> x` that map a student's features to the teacher's shape."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mmkd_jax.core.model import StepContext
from mmkd_jax.nn import conv
from mmkd_jax.nn.batch_norm import BatchNorm


class Linear(nn.Module):
    """Linear projection of the last axis.

    Attributes:
        width: output dimension.
        batch_norm: apply BatchNorm to the output.
    """

    width: int
    batch_norm: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "b ... d"], ctx: StepContext) -> Float[Array, "b ... e"]:
        return _normalized(nn.Dense(self.width, use_bias=not self.batch_norm)(x), self.batch_norm, ctx)


class MLP(nn.Module):
    """Two-layer perceptron with ReLU on the last axis.

    Attributes:
        width: output dimension.
        hidden: hidden width; 0 is `width`.
        batch_norm: apply BatchNorm to the hidden layer.
    """

    width: int
    hidden: int = 0
    batch_norm: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "b ... d"], ctx: StepContext) -> Float[Array, "b ... e"]:
        x = nn.Dense(self.hidden or self.width, use_bias=not self.batch_norm)(x)
        return nn.Dense(self.width)(nn.relu(_normalized(x, self.batch_norm, ctx)))


class Each(nn.Module):
    """One connector per layer, such as `Each((Linear(8), Linear(8)))`.

    Attributes:
        connectors: connectors, one for each layer.
    """

    connectors: tuple[nn.Module, ...]

    def __call__(
        self, layers: tuple[Float[Array, "b ..."], ...], ctx: StepContext
    ) -> tuple[Float[Array, "b ..."], ...]:
        return tuple(connect(x, ctx) for connect, x in zip(self.connectors, layers, strict=True))


class Conv(nn.Module):
    """Convolution of a feature map.

    Attributes:
        width: number of output channels.
        kernel: kernel size.
        stride: stride of the convolution.
        batch_norm: apply BatchNorm and ReLU to the output, as FitNets' regressor does.
    """

    width: int
    kernel: int = 1
    stride: int = 1
    batch_norm: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], ctx: StepContext) -> Float[Array, "b i j d"]:
        size, edge = (self.kernel, self.kernel), ((self.kernel - 1) // 2, self.kernel // 2)
        # fixed padding: that of "SAME" depends on the stride
        x = conv.Conv(self.width, size, self.stride, padding=(edge, edge), use_bias=not self.batch_norm)(x)
        return nn.relu(_normalized(x, True, ctx)) if self.batch_norm else x


class Bottleneck(nn.Module):
    """Bottleneck: 1×1, 3×3 and 1×1 convolutions (linear layers for vectors), with BatchNorm and ReLU in between.

    Attributes:
        width: number of output channels.
        hidden: number of channels of the hidden layers.
        activated: apply BatchNorm and ReLU after the last layer, too.
    """

    width: int
    hidden: int
    activated: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "b *hw c"], ctx: StepContext) -> Float[Array, "b *hw d"]:
        for i, (width, kernel) in enumerate(((self.hidden, 1), (self.hidden, 3), (self.width, 1))):
            layer = (
                nn.Dense(width, use_bias=False) if x.ndim == 2 else conv.Conv(width, (kernel, kernel), use_bias=False)
            )
            x = layer(x)
            x = nn.relu(_normalized(x, True, ctx)) if i < 2 or self.activated else x
        return x


class ABF(nn.Module):
    """Attention-based fusion (ABF) of ReviewKD: fuse a feature map with the residual from deeper stages.

    Formula: z = BN(W₁ x), (a, b) = σ(W_a [z, r]), r' = a z + b r, result = BN(W₃ ∗ r'); r' is passed to the next stage

    Attributes:
        width: number of channels of z and of the residual r.
        channels: number of output channels.
        size: height and width of the result and of r'; None keeps those of x.
    """

    width: int
    channels: int
    size: tuple[int, int] | None = None

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], residual: Float[Array, "b i j d"] | None, ctx: StepContext
    ) -> tuple[Float[Array, "b k l e"], Float[Array, "b k l d"]]:
        x = _normalized(conv.Conv(self.width, (1, 1), use_bias=False, name="inward")(x), True, ctx)
        if residual is not None:
            residual = nearest(residual, (x.shape[1], x.shape[2]))
            both = jnp.concatenate([x, residual], -1)
            share = jax.nn.sigmoid(conv.Conv(2, (1, 1), name="attention")(both))
            x = x * share[..., :1] + residual * share[..., 1:]
        if self.size is not None:
            x = nearest(x, self.size)
        return _normalized(conv.Conv(self.channels, (3, 3), use_bias=False, name="outward")(x), True, ctx), x


def nearest(x: Float[Array, "b h w c"], size: tuple[int, int]) -> Float[Array, "b i j c"]:
    """Resize a feature map by nearest neighbor: output position i of m reads input position ⌊i n / m⌋ of n."""
    for axis, (n, m) in enumerate(zip(x.shape[1:3], size, strict=True), 1):
        if n != m:
            x = jnp.take(x, jnp.arange(m) * n // m, axis)
    return x


def as_map(x: Float[Array, "b *hw c"]) -> Float[Array, "b h w c"]:
    """Reshape features to a map: tokens [b, l, d] to l × 1, vectors [b, d] to 1 × 1."""
    return x.reshape(*x.shape[:-1], *[1] * (4 - x.ndim), x.shape[-1])


class Resampler(nn.Module):
    """Perceiver resampler: map any number of tokens to a fixed number by cross-attention of learned queries (Flamingo).

    The input is tokens, or a pair of tokens and mask, as in `student=("student.hidden.text.1", "batch.text.mask")`.
    Masked tokens do not affect the result.

    Attributes:
        tokens: number of output tokens.
        width: output dimension; a multiple of `heads`.
        heads: number of attention heads.
        layers: number of blocks of cross-attention and MLP.
    """

    tokens: int
    width: int
    heads: int = 4
    layers: int = 1

    @nn.compact
    def __call__(
        self, x: Float[Array, "b l d"] | tuple[Float[Array, "b l d"], Bool[Array, "b l"]], ctx: StepContext
    ) -> Float[Array, "b n e"]:
        x, mask = x if isinstance(x, tuple) else (x, jnp.ones(x.shape[:2], bool))
        x = nn.LayerNorm()(jnp.where(mask[..., None], x, jnp.zeros((), x.dtype)))
        queries = self.param("queries", nn.initializers.normal(0.02), (self.tokens, self.width))
        y = jnp.broadcast_to(queries.astype(x.dtype), (x.shape[0], *queries.shape))
        for _ in range(self.layers):
            y = y + self._attend(nn.LayerNorm()(y), x, mask)
            h = nn.gelu(nn.Dense(4 * self.width)(nn.LayerNorm()(y)), approximate=False)
            y = y + nn.Dense(self.width)(h)
        return nn.LayerNorm()(y)

    def _attend(self, y: Float[Array, "b n e"], x: Float[Array, "b l d"], mask: Bool[Array, "b l"]):
        dim = self.width // self.heads
        q, k, v = (nn.DenseGeneral((self.heads, dim))(z) for z in (y, x, x))
        score = jnp.einsum("bnhk,blhk->bhnl", q, k) * dim**-0.5
        valid = mask[:, None, None, :]
        weights = jax.nn.softmax(jnp.where(valid, score, jnp.finfo(score.dtype).min), -1)
        weights = jnp.where(valid, weights, jnp.zeros((), weights.dtype))  # all zero without valid tokens
        return nn.DenseGeneral(self.width, (-2, -1))(jnp.einsum("bhnl,blhk->bnhk", weights, v))


def _normalized(x, batch_norm: bool, ctx: StepContext):
    if not batch_norm:
        return x
    return BatchNorm(momentum=0.9)(x, ctx)
