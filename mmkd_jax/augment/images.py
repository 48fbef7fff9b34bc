"""Augmentations of images [b, h, w, c]; of videos [b, t, h, w, c] with one draw for all frames of a row."""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Key, Num

from mmkd_jax.augment.randaugment import RandAugment as RandAugment
from mmkd_jax.augment.rows import (
    LEVEL,
    STEPS,
    chance,
    check_share,
    check_size,
    column,
    draw_steps,
    each,
    in_steps,
    to_unit,
)
from mmkd_jax.errors import UserError
from mmkd_jax.modalities import unit
from mmkd_jax.views import Batch


@dataclasses.dataclass(frozen=True)
class Crop:
    """Pad each side, then cut the old size out at random: a shift by up to `padding` pixels.

    Attributes:
        padding: pixels, at least 0.
        mode: what the padding holds: "constant" is `fill`, "reflect" the picture mirrored, "edge" its last pixels.
        fill: the value of constant padding, in the picture's own units.
        modality: name in the batch.

    Raises:
        UserError: a padding that is no whole number of at least 0.

    Source: He et al., Deep Residual Learning for Image Recognition, 2016, https://arxiv.org/abs/1512.03385

    Example:
        >>> keys = jax.random.split(jax.random.key(0), 2)
        >>> Crop(1)({"image": jnp.ones((2, 4, 4, 1), jnp.uint8)}, keys)["image"].dtype
        dtype('uint8')
    """

    padding: int
    mode: Literal["constant", "reflect", "edge"] = "constant"
    fill: int | float = 0
    modality: str = "image"

    def __post_init__(self):
        check_size(self, padding=self.padding)

    def __call__(self, batch: Batch, keys: Key[Array, " b"]) -> Batch:
        x, p = column(batch, self.modality, self), self.padding
        if p == 0:
            return batch
        sides = [(0, 0)] * (x.ndim - 3) + [(p, p), (p, p), (0, 0)]
        constant = {"constant_values": jnp.asarray(self.fill, x.dtype)} if self.mode == "constant" else {}
        padded = jnp.pad(x, sides, self.mode, **constant)

        def one(key, row):
            start = jax.random.randint(key, (2,), 0, 2 * p + 1)
            return jax.lax.dynamic_slice(row, (*[0] * (row.ndim - 3), start[0], start[1], 0), x.shape[1:])

        return {**batch, self.modality: each(one, keys, padded)}


@dataclasses.dataclass(frozen=True)
class Flip:
    """Left and right exchanged in some rows.

    Attributes:
        rate: probability, 0 … 1.
        modality: name in the batch.

    Raises:
        UserError: the rate is no probability.

    Example:
        >>> keys = jax.random.split(jax.random.key(0), 1)
        >>> Flip(rate=1.0)({"image": jnp.arange(3).reshape(1, 1, 3, 1)}, keys)["image"].ravel().tolist()
        [2, 1, 0]
    """

    rate: int | float = 0.5
    modality: str = "image"

    def __post_init__(self):
        check_share(self, rate=self.rate)

    def __call__(self, batch: Batch, keys: Key[Array, " b"]) -> Batch:
        def one(key, row):
            return jnp.where(chance(key, self.rate), row[..., ::-1, :], row)

        return {**batch, self.modality: each(one, keys, column(batch, self.modality, self))}


@dataclasses.dataclass(frozen=True)
class Cutout:
    """A square around a random pixel is blanked; what of it lies outside the picture is cut off.

    Attributes:
        size: side of the square, in pixels.
        fill: the value in it, in the picture's own units.
        modality: name in the batch.

    Raises:
        UserError: a size that is no whole number of at least 0.

    Source: DeVries and Taylor, Improved Regularization of Convolutional Neural Networks with Cutout, 2017,
        https://arxiv.org/abs/1708.04552

    Example:
        >>> keys = jax.random.split(jax.random.key(0), 1)
        >>> Cutout(1)({"image": jnp.ones((1, 4, 4, 1))}, keys)["image"].sum().item()
        15.0
    """

    size: int
    fill: int | float = 0
    modality: str = "image"

    def __post_init__(self):
        check_size(self, size=self.size)

    def __call__(self, batch: Batch, keys: Key[Array, " b"]) -> Batch:
        x = column(batch, self.modality, self)
        height, width = x.shape[-3:-1]

        def one(key, row):
            corner = jax.random.randint(key, (2,), 0, jnp.array([height, width])) - self.size // 2
            box = inside(corner, corner + self.size, height, width)
            return jnp.where(box[..., None].reshape(*[1] * (row.ndim - 3), height, width, 1), self.fill, row)

        return {**batch, self.modality: each(one, keys, x).astype(x.dtype)}


def inside(low: Int[Array, " 2"], high: Int[Array, " 2"], height: int, width: int) -> Array:
    """The box of rows and columns low … high − 1, as a mask [h, w]."""
    y, x = jnp.arange(height)[:, None], jnp.arange(width)[None]
    return ((y >= low[0]) & (y < high[0])) & ((x >= low[1]) & (x < high[1]))


@dataclasses.dataclass(frozen=True)
class Colour:
    """Brightness, contrast, saturation and hue, changed in this order.

    Formula: p ← f p; p ← m + f (p − m), m the mean grey of the frame; p ← g + f (p − g), g the pixel's grey; hue turned
    by f in HSV; f uniform in max(0, 1 − strength) … 1 + strength, that of hue in −strength … strength; each result is
    clipped to [0, 1]

    In fixed point, to 1 / 256 of a grey level: the same bits in any program. Pictures of one channel have no saturation
    and no hue.

    Attributes:
        brightness: strength, at least 0; 0 changes nothing.
        contrast: strength.
        saturation: strength.
        hue: strength in turns, 0 … 0.5.
        modality: name in the batch: uint8, read as [0, 1], or floats in [0, 1]; the result is float32.

    Raises:
        UserError: a strength out of its range; pictures that have neither 1 nor 3 channels.

    Source: Howard, Some Improvements on Deep Convolutional Neural Network Based Image Classification, 2013,
        https://arxiv.org/abs/1312.5402

    Example:
        >>> keys = jax.random.split(jax.random.key(0), 1)
        >>> Colour(saturation=1)({"image": jnp.full((1, 1, 1, 3), 255, jnp.uint8)}, keys)["image"].ravel()
        Array([1., 1., 1.], dtype=float32)
    """

    brightness: int | float = 0
    contrast: int | float = 0
    saturation: int | float = 0
    hue: int | float = 0
    modality: str = "image"

    def __post_init__(self):
        for name, most in (("brightness", 30), ("contrast", 30), ("saturation", 30), ("hue", 0.5)):
            if not 0 <= getattr(self, name) <= most:
                raise UserError(f"Colour: {name} must be between 0 and {most}, not {getattr(self, name)}")

    def __call__(self, batch: Batch, keys: Key[Array, " b"]) -> Batch:
        x = column(batch, self.modality, self)
        if x.shape[-1] not in (1, 3):
            raise UserError(f"{self}: {self.modality!r} has {x.shape[-1]} channels; expected 1 or 3")
        if not any((self.brightness, self.contrast, self.saturation, self.hue)):
            return {**batch, self.modality: unit(x)}
        return {**batch, self.modality: each(self._one, keys, x)}

    def _one(self, key, row):
        keys = jax.random.split(key, 4)
        p = _fixed(row)

        def factor(i, strength):
            return draw_steps(keys[i], max(0.0, 1 - strength), 1 + strength)

        if self.brightness:
            p = _towards(jnp.zeros_like(p), p, factor(0, self.brightness))
        if self.contrast:
            grey = _grey(p)[..., 0]
            mean = (grey.sum(-1) // grey.shape[-1]).sum(-1) // grey.shape[-2]
            p = _towards(jnp.broadcast_to(mean[..., None, None, None], p.shape), p, factor(1, self.contrast))
        if self.saturation and p.shape[-1] == 3:
            p = _towards(jnp.broadcast_to(_grey(p), p.shape), p, factor(2, self.saturation))
        if self.hue and p.shape[-1] == 3:
            p = _turned(p, draw_steps(keys[3], -self.hue, self.hue))
        return to_unit(p, 255 * LEVEL)


def _fixed(x: Num[Array, "*n"]) -> Int[Array, "*n"]:
    """Pixels as whole numbers of 1 / LEVEL grey levels."""
    if jnp.issubdtype(x.dtype, jnp.integer):
        return x.astype(jnp.int32) * LEVEL
    return jnp.round(jnp.clip(x, 0, 1).astype(jnp.float32) * in_steps(255, LEVEL)).astype(jnp.int32)


def _towards(base, p, factor):
    """base + f (p − base), clipped."""
    moved = base + (((p - base) * factor + STEPS // 2) // STEPS)
    return jnp.clip(moved, 0, 255 * LEVEL)


def _grey(p):
    """Luma after ITU-R 601, of one channel the channel itself; keeps the axis."""
    if p.shape[-1] == 1:
        return p
    weights = jnp.array([19595, 38470, 7471], jnp.uint32).reshape(*[1] * (p.ndim - 1), 3)
    weighted = (p.astype(jnp.uint32) * weights).sum(-1, keepdims=True, dtype=jnp.uint32)
    return ((weighted + (1 << 15)) >> 16).astype(jnp.int32)


def _turned(p, turn):
    """Hue turned by `turn` / STEPS; the largest and the smallest channel keep their values."""
    r, g, b = (p[..., i] for i in range(3))
    high, low = p.max(-1), p.min(-1)
    spread = (high - low).astype(jnp.float32)
    safe = jnp.maximum(spread, 1)
    third = jnp.where(high == r, 0, jnp.where(high == g, 2, 4)).astype(jnp.float32)
    over = jnp.where(high == r, g - b, jnp.where(high == g, b - r, r - g)).astype(jnp.float32)
    sixth = third + over / safe + (6 * turn).astype(jnp.float32) / STEPS
    channels = []
    for n in (5.0, 3.0, 1.0):
        k = jnp.mod(sixth + n, 6.0)
        channels.append(high - jnp.round(spread * jnp.clip(jnp.minimum(k, 4 - k), 0, 1)).astype(jnp.int32))
    return jnp.stack(channels, -1)
