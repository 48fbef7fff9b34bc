"""Image augmentations [b, h, w, c]; for videos [b, t, h, w, c], one draw for all frames of a row."""

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
from mmkd_jax.core.modalities import unit
from mmkd_jax.core.model import Batch
from mmkd_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class RandomCrop:
    """Random crop to the original size after padding each side: a shift by up to `padding` pixels.

    Attributes:
        padding: pixels, at least 0.
        mode: padding mode: "constant" pads with `fill`, "reflect" mirrors the image, "edge" repeats its border.
        fill: value of constant padding, in the units of the image.
        modality: name in the batch.

    Raises:
        UserError: the padding is not an integer of at least 0.

    Source: He et al., Deep Residual Learning for Image Recognition, 2016, https://arxiv.org/abs/1512.03385

    Example:
        >>> keys = jax.random.split(jax.random.key(0), 2)
        >>> RandomCrop(1)({"image": jnp.ones((2, 4, 4, 1), jnp.uint8)}, keys)["image"].dtype
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
class RandomFlip:
    """Random horizontal flip.

    Attributes:
        rate: flip probability, 0 … 1.
        modality: name in the batch.

    Raises:
        UserError: the rate is not in [0, 1].

    Example:
        >>> keys = jax.random.split(jax.random.key(0), 1)
        >>> RandomFlip(rate=1.0)({"image": jnp.arange(3).reshape(1, 1, 3, 1)}, keys)["image"].ravel().tolist()
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
    """Cutout: fill a square around a random pixel, clipped at the image border.

    Attributes:
        size: side of the square, in pixels.
        fill: fill value, in the units of the image.
        modality: name in the batch.

    Raises:
        UserError: the size is not an integer of at least 0.

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
    """Return a box of rows and columns low … high − 1 as a mask [h, w]."""
    y, x = jnp.arange(height)[:, None], jnp.arange(width)[None]
    return ((y >= low[0]) & (y < high[0])) & ((x >= low[1]) & (x < high[1]))


@dataclasses.dataclass(frozen=True)
class ColorJitter:
    """Color jitter: random brightness, contrast, saturation and hue, applied in this order.

    Formula: brightness p ← f p; contrast p ← m + f (p − m), with m the mean gray level of the frame; saturation
    p ← g + f (p − g), with g the gray level of the pixel; hue rotated by f in HSV; f is uniform in
    max(0, 1 − strength) … 1 + strength, for hue in −strength … strength; each result is clipped to [0, 1]

    Computed in fixed point with 1 / 256 of a gray level, so results are bit-identical in any program. Saturation and
    hue do not apply to images with one channel.

    Attributes:
        brightness: strength, at least 0; 0 disables it.
        contrast: strength, at least 0; 0 disables it.
        saturation: strength, at least 0; 0 disables it.
        hue: strength in turns, 0 … 0.5; 0 disables it.
        modality: name in the batch: uint8, scaled to [0, 1], or floats in [0, 1]; the result is float32.

    Raises:
        UserError: a strength is out of range, or the images have neither 1 nor 3 channels.

    Source: Howard, Some Improvements on Deep Convolutional Neural Network Based Image Classification, 2013,
        https://arxiv.org/abs/1312.5402

    Example:
        >>> keys = jax.random.split(jax.random.key(0), 1)
        >>> ColorJitter(saturation=1)({"image": jnp.full((1, 1, 1, 3), 255, jnp.uint8)}, keys)["image"].ravel()
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
                raise UserError(f"ColorJitter: {name} must be between 0 and {most}, not {getattr(self, name)}")

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
            grayscale = _grayscale(p)[..., 0]
            mean = (grayscale.sum(-1) // grayscale.shape[-1]).sum(-1) // grayscale.shape[-2]
            p = _towards(jnp.broadcast_to(mean[..., None, None, None], p.shape), p, factor(1, self.contrast))
        if self.saturation and p.shape[-1] == 3:
            p = _towards(jnp.broadcast_to(_grayscale(p), p.shape), p, factor(2, self.saturation))
        if self.hue and p.shape[-1] == 3:
            p = _turned(p, draw_steps(keys[3], -self.hue, self.hue))
        return to_unit(p, 255 * LEVEL)


def _fixed(x: Num[Array, "*n"]) -> Int[Array, "*n"]:
    """Convert pixels to fixed point, in units of 1 / LEVEL gray level."""
    if jnp.issubdtype(x.dtype, jnp.integer):
        return x.astype(jnp.int32) * LEVEL
    return jnp.round(jnp.clip(x, 0, 1).astype(jnp.float32) * in_steps(255, LEVEL)).astype(jnp.int32)


def _towards(base, p, factor):
    """base + f (p − base), clipped."""
    moved = base + (((p - base) * factor + STEPS // 2) // STEPS)
    return jnp.clip(moved, 0, 255 * LEVEL)


def _grayscale(p):
    """ITU-R 601 luma, or the channel itself for one channel; keeps the axis."""
    if p.shape[-1] == 1:
        return p
    weights = jnp.array([19595, 38470, 7471], jnp.uint32).reshape(*[1] * (p.ndim - 1), 3)
    weighted = (p.astype(jnp.uint32) * weights).sum(-1, keepdims=True, dtype=jnp.uint32)
    return ((weighted + (1 << 15)) >> 16).astype(jnp.int32)


def _turned(p, turn):
    """Rotate hue by `turn` / STEPS turns; keeps the maximum and the minimum over channels."""
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
