"""Transformer layer whose attention is within windows of an image (Swin)."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Num

from mmkd_jax.core.model import StepContext, Taps
from mmkd_jax.nn.transformer import Layer


class WindowLayer(Layer):
    """Transformer layer with self-attention within square windows, and a learned bias for each relative position.

    Formula: softmax(q kᵀ / √d + B) v in each window of w × w tokens, with B[i, j] a function of the positions of i
        minus those of j

    With a shift, the windows begin `shift` rows and columns later, cyclically; tokens that are together in a window at
    an edge, but not neighbors in the image, do not attend to each other. Rows and columns of zeros fill the last
    windows and are attended to, as in its training.

    Variables, in addition to those of `Layer`: `relative`, the bias [(2 w − 1)², heads].

    Intermediates of the attention have windows as the second axis; `scores` contain the bias.

    Attributes:
        grid: number of rows and columns of the tokens.
        window: w, side of a window in tokens.

    Source: Liu et al., Swin Transformer, 2021, https://arxiv.org/abs/2103.14030
    """

    grid: tuple[int, ...] = (7, 7)
    window: int = 7

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b l d"],
        mask: Bool[Array, "b l"] | None,
        rows: Int[Array | np.ndarray, " b"],
        ctx: StepContext,
        patch: dict[str, Any],
        shift: int | Int[Array, ""] = 0,
    ) -> tuple[Float[Array, "b l d"], dict[str, Any]]:
        """Return the tokens, and the layer's intermediates by name.

        Args:
            x: tokens, in row-major order.
            mask: not used: images have no padding.
            rows: `example_id`, by which dropout masks are keyed.
            ctx: step context, with a key specific to this layer.
            patch: values that replace intermediates, by name.
            shift: number of rows and columns that the windows are moved by.
        """
        del mask
        (b, length, d), (h, w), tap = x.shape, self.grid, Taps(patch)
        whole = [-(-n // self.window) * self.window for n in self.grid]
        x = x.reshape(-1, d)
        y = self.norm("norm_attention", x).reshape(b, h, w, d)
        y = jnp.roll(jnp.pad(y, ((0, 0), (0, whole[0] - h), (0, whole[1] - w), (0, 0))), -shift, (1, 2))
        y = partitioned(y, self.window)
        shape = (self.relative_positions.max() + 1, self.config.num_heads)
        bias = self.param("relative", nn.initializers.normal(0.02), shape)[self.relative_positions].transpose(2, 0, 1)
        always = isinstance(shift, int) and shift == 0
        attendable = None if always else neighbors(whole, self.window, shift)[None, :, None]
        y = self.attention(y, y.shape, attendable, rows, ctx, tap, positions=bias)
        y = y.reshape(b, whole[0] // self.window, whole[1] // self.window, self.window, self.window, d)
        y = jnp.roll(y.swapaxes(2, 3).reshape(b, *whole, d), shift, (1, 2))[:, :h, :w]
        x = x + y.reshape(x.shape)
        y = self.branch("output", self.mlp(self.norm("norm_output", x)), (b, length, d), rows, ctx)
        return tap("hidden", x.reshape(b, length, d) + y), tap.outputs

    @property
    def relative_positions(self) -> np.ndarray:
        """Row of the bias for each pair of tokens of a window, [w², w²]."""
        side = np.arange(self.window)
        apart = side[:, None] - side + self.window - 1
        pairs = apart[:, None, :, None] * (2 * self.window - 1) + apart[None, :, None]
        return pairs.reshape(self.window**2, self.window**2)


def partitioned(x: Num[Array, "b h w d"], window: int) -> Num[Array, "b n k d"]:
    """Return the tokens of each window, in row-major order.

    Args:
        x: an image of tokens, whose sides the windows divide.
        window: side of a window.

    Example:
        >>> partitioned(jnp.arange(8).reshape(1, 2, 4, 1), 2)[0, :, :, 0].tolist()
        [[0, 1, 4, 5], [2, 3, 6, 7]]
    """
    b, h, w, d = x.shape
    x = x.reshape(b, h // window, window, w // window, window, d)
    return x.swapaxes(2, 3).reshape(b, -1, window**2, d)


def neighbors(sides: list[int], window: int, shift: int | Int[Array, ""]) -> Bool[Array, "n k k"]:
    """Return which tokens of each window are neighbors in an image that was rolled by −shift rows and columns.

    Args:
        sides: number of rows and columns, which the windows divide.
        window: side of a window.
        shift: number of rows and columns, less than a window.

    Example:
        >>> neighbors([2, 2], 2, 1)[0].astype(int).tolist()
        [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    """
    down, across = (
        (jnp.arange(n) >= n - shift).astype(jnp.int32) for n in sides
    )  # those that were rolled over the edge
    region = partitioned((2 * down[:, None] + across[None])[None, ..., None], window)[0, ..., 0]
    return region[:, :, None] == region[:, None]
