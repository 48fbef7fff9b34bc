"""Connectors: modules that bring a student's features to the teacher's shape. Called like models: `(x, ctx)`."""

import flax.linen as nn
from jaxtyping import Array, Float

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
        size = (self.kernel, self.kernel)
        x = nn.Conv(self.width, size, self.stride, use_bias=not self.batch_norm)(x)
        return nn.relu(_normalised(x, True, ctx)) if self.batch_norm else x


def _normalised(x, batch_norm: bool, ctx: Context):
    if not batch_norm:
        return x
    return nn.BatchNorm(use_running_average=not ctx.train, axis_name=ctx.axis)(x)
