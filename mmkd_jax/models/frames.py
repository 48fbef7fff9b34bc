"""A video encoder from any image encoder, and a pooling over frames: `(batch, modality, ctx, tap) -> features`."""

from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Num

from mmkd_jax.errors import UserError, choices
from mmkd_jax.models.inputs import visible
from mmkd_jax.models.pooling import mean_where
from mmkd_jax.views import Batch, Context, Taps

POOLS = ("mean", "max", "attention")


class Frames(nn.Module):
    """An image encoder on each frame of a video [b, t, h, w, c], and the frames' features as one.

    Formula: y_i = encoder(frame i); mean or max over the frames there are, or Σ α_i y_i with α = softmax(W y)

    `video.mask` [b, t] says which frames there are: the others are zeros, count in no statistics of a BatchNorm, and
    are not pooled; a row without any has zeros. Each frame has dropout masks of its own.

    Outputs: those of the encoder under their names, with frames as their second axis, such as `hidden.M.i`
    [b, t, l, d]; `frames.M` [b, t, d], the frames' features; with attention `weights.M` [b, t].

    The encoder's variables stand under `encoder` as they are: see docs/pretrained.md for a pretrained one.

    Attributes:
        encoder: of images, any module `(batch, modality, ctx, tap) -> features`.
        pool: "mean", "max", or "attention", which begins as the mean.

    Source: the learned pooling, without its hidden layer: Ilse et al., Attention-based Deep Multiple Instance Learning,
        2018, https://arxiv.org/abs/1802.04712

    Example:
        >>> from mmkd_jax.models import Encoders, ImageCNN
        >>> model = Encoders({"video": Frames(ImageCNN((4, 8)))})
    """

    encoder: nn.Module
    pool: str = "mean"

    @nn.nowrap
    def sample(self, modality: str) -> dict[str, Array]:
        """The smallest batch, for shapes."""
        return {k: x[:, None] for k, x in self.encoder.sample(modality).items()}

    @nn.compact
    def __call__(self, batch: Batch, modality: str, ctx: Context, tap: Taps) -> Float[Array, "b d"]:
        if self.pool not in POOLS:
            raise UserError(f"{modality}: pool is {self.pool!r}; there are: {choices(POOLS)}")
        x, mask = frames_there(batch, modality)
        if x.ndim != 5:
            raise UserError(f"{modality}: videos of shape {list(x.shape)}; expected [b, t, h, w, c]")
        mask = jnp.ones(x.shape[:2], bool) if mask is None else mask

        def encode(x, rows, ctx, tap):
            return self.encoder({modality: x, "example_id": rows}, modality, ctx, tap)

        y = tap(f"frames.{modality}", each_frame(encode, x, batch["example_id"], ctx, tap, mask))
        here = mask[..., None]
        wide, some = jnp.where(here, y.astype(jnp.float32), 0), here.any(1)
        if self.pool == "max":
            return jnp.where(some, jnp.where(here, wide, -jnp.inf).max(1), 0).astype(y.dtype)
        if self.pool == "mean":
            return mean_where(y, mask)
        score = nn.Dense(1, use_bias=False, kernel_init=nn.initializers.zeros, name="score")(wide)
        weights = nn.softmax(jnp.where(here, score, jnp.finfo(score.dtype).min), 1)[..., 0]
        return (wide * tap(f"weights.{modality}", weights)[..., None]).sum(1).astype(y.dtype)


def frames_there(batch: Batch, modality: str) -> tuple[Num[Array, "b t ..."], Bool[Array, "b t"] | None]:
    """Videos with zeros for frames that their mask says are none, and that mask; None without one.

    Raises:
        UserError: the mask has another shape.
    """
    seen, told = visible(batch, modality), f"{modality}.mask"
    x, mask = seen[modality], seen.get(told)
    if mask is None:
        return x, None
    if mask.shape != x.shape[:2]:
        raise UserError(f"{told} has shape {list(mask.shape)}; expected {list(x.shape[:2])}, those of {modality}")
    here = mask.reshape(*mask.shape, *[1] * (x.ndim - 2))
    return jnp.where(here, x, jnp.zeros((), x.dtype)), mask  # replaced: a NaN there is gone


def each_frame(
    run: Callable[..., Float[Array, "n ..."]],
    x: Num[Array, "b t ..."],
    rows: Int[Array | np.ndarray, " b"],
    ctx: Context,
    tap: Taps,
    mask: Bool[Array, "b t"] | None = None,
) -> Float[Array, "b t ..."]:
    """What a model of single images makes of each frame: frames are rows to it, and an axis again to all others.

    Args:
        run: `(x, rows, ctx, tap) -> values` of n = b t frames; what it taps has frames as the second axis outside.
        x: frames.
        rows: `example_id`; each frame gets a number of its own, so that its dropout masks are its own.
        ctx: of the step; the rows that count for statistics become frames.
        tap: of the model.
        mask: which frames count; all, if None.
    """
    shape = x.shape[:2]
    counts = jnp.ones(shape, bool) if mask is None else mask
    if ctx.where is not None:
        counts = counts & ctx.where[:, None]

    def folded(v):
        return v.reshape(-1, *v.shape[2:])

    number = jnp.arange(shape[1], dtype=jnp.int32)[None] + jnp.asarray(rows, jnp.int32)[:, None] * SPREAD
    inner = Taps({k: folded(v) for k, v in tap.patch.items() if jnp.shape(v)[:2] == shape})
    y = run(folded(x), folded(number), ctx._replace(where=folded(counts)), inner)
    for name, v in inner.outputs.items():  # a patch of another shape is refused here
        tap(name, v.reshape(*shape, *v.shape[1:]))
    return y.reshape(*shape, *y.shape[1:])


SPREAD = -1_640_531_535
"""A prime near 2³² / φ, as an int32 that wraps: the frames' numbers of nearby examples lie far from each other."""
