"""Video encoder from any image encoder, with temporal pooling: `(batch, modality, ctx, tap) -> features`."""

from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Num

from mmkd_jax.core.model import Batch, StepContext, Taps
from mmkd_jax.errors import UserError, choices
from mmkd_jax.models._inputs import masked_input
from mmkd_jax.nn.pooling import masked_mean

POOLS = ("mean", "max", "attention")


class PerFrame(nn.Module):
    """Video encoder: an image encoder on each frame [b, t, h, w, c], and pooling of the frame features over time.

    Formula: y_i = encoder(frame i); mean or maximum over the valid frames, or Σ α_i y_i with α = softmax(W y)

    `video.mask` [b, t] marks the valid frames. The others are zeroed, excluded from BatchNorm statistics, and not
    pooled; a row without valid frames has zero features. Dropout masks are independent across frames.

    Outputs: those of the encoder under the same names, with frames as the second axis, such as `hidden.M.i`
    [b, t, l, d]; `frames.M` [b, t, d], the frame features; `frames_mask.M` [b, t], the valid frames; with attention
    pooling, `weights.M` [b, t].

    The encoder's variables are nested under `encoder`, otherwise unchanged; see docs/pretrained.md for pretrained ones.

    Attributes:
        encoder: image encoder, any module `(batch, modality, ctx, tap) -> features`.
        pool: "mean", "max", or "attention", which equals the mean at initialization.

    Source: attention pooling, without its hidden layer: Ilse et al., Attention-based Deep Multiple Instance Learning,
        2018, https://arxiv.org/abs/1802.04712

    Example:
        >>> from mmkd_jax.models import Encoders, ImageCNN
        >>> model = Encoders({"video": PerFrame(ImageCNN((4, 8)))})
    """

    encoder: nn.Module
    pool: str = "mean"

    @nn.nowrap
    def sample(self, modality: str) -> dict[str, Array]:
        """Return the smallest valid batch, for shape inference."""
        return {k: x[:, None] for k, x in self.encoder.sample(modality).items()}

    @nn.compact
    def __call__(self, batch: Batch, modality: str, ctx: StepContext, tap: Taps) -> Float[Array, "b d"]:
        if self.pool not in POOLS:
            raise UserError(f"{modality}: pool is {self.pool!r}; expected one of: {choices(POOLS)}")
        x, mask = masked_frames(batch, modality)
        if x.ndim != 5:
            raise UserError(f"{modality}: videos of shape {list(x.shape)}; expected [b, t, h, w, c]")
        mask = tap(f"frames_mask.{modality}", jnp.ones(x.shape[:2], bool) if mask is None else mask)

        def encode(x, rows, ctx, tap):
            return self.encoder({modality: x, "example_id": rows}, modality, ctx, tap)

        y = tap(f"frames.{modality}", each_frame(encode, x, batch["example_id"], ctx, tap, mask))
        valid = mask[..., None]
        wide, nonempty = jnp.where(valid, y.astype(jnp.float32), 0), valid.any(1)
        if self.pool == "max":
            return jnp.where(nonempty, jnp.where(valid, wide, -jnp.inf).max(1), 0).astype(y.dtype)
        if self.pool == "mean":
            return masked_mean(y, mask)
        score = nn.Dense(1, use_bias=False, kernel_init=nn.initializers.zeros, name="score")(wide)
        weights = nn.softmax(jnp.where(valid, score, jnp.finfo(score.dtype).min), 1)[..., 0]
        return (wide * tap(f"weights.{modality}", weights)[..., None]).sum(1).astype(y.dtype)


def masked_frames(batch: Batch, modality: str) -> tuple[Num[Array, "b t ..."], Bool[Array, "b t"] | None]:
    """Return videos with zeros in masked frames, and the mask (None if the batch has none).

    Raises:
        UserError: the shape of the mask is not [b, t].
    """
    arrays, mask_name = masked_input(batch, modality), f"{modality}.mask"
    x, mask = arrays[modality], arrays.get(mask_name)
    if mask is None:
        return x, None
    if mask.shape != x.shape[:2]:
        raise UserError(f"{mask_name} has shape {list(mask.shape)}; expected {list(x.shape[:2])}, as {modality}")
    valid = mask.reshape(*mask.shape, *[1] * (x.ndim - 2))
    return jnp.where(valid, x, jnp.zeros((), x.dtype)), mask  # not multiplied: a NaN must not propagate


def each_frame(
    run: Callable[..., Float[Array, "n ..."]],
    x: Num[Array, "b t ..."],
    rows: Int[Array | np.ndarray, " b"],
    ctx: StepContext,
    tap: Taps,
    mask: Bool[Array, "b t"] | None = None,
) -> Float[Array, "b t ..."]:
    """Apply an image model to each frame of a video, with time folded into the batch axis.

    Args:
        run: `(x, rows, ctx, tap) -> values` on n = b t frames; its intermediates are tapped with time as second axis.
        x: frames.
        rows: `example_id`; each frame gets a distinct id, and thus independent dropout masks.
        ctx: step context; its mask of rows in batch statistics is expanded to frames.
        tap: Taps of the video model.
        mask: frames to include in batch statistics; None includes all.
    """
    shape = x.shape[:2]
    included = jnp.ones(shape, bool) if mask is None else mask
    if ctx.where is not None:
        included = included & ctx.where[:, None]

    def folded(v):
        return v.reshape(-1, *v.shape[2:])

    frame_ids = jnp.arange(shape[1], dtype=jnp.int32)[None] + jnp.asarray(rows, jnp.int32)[:, None] * SPREAD
    inner = Taps({k: folded(v) for k, v in tap.patch.items() if jnp.shape(v)[:2] == shape})
    y = run(folded(x), folded(frame_ids), ctx._replace(where=folded(included)), inner)
    for name, v in inner.outputs.items():  # raises if a patch has another shape
        tap(name, v.reshape(*shape, *v.shape[1:]))
    return y.reshape(*shape, *y.shape[1:])


SPREAD = -1_640_531_535
"""A prime near 2³² / φ, wrapped to int32; it places the frame ids of nearby examples far apart."""
