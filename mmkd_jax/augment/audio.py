"""Audio augmentations: waveforms [b, n] and log-mel spectrograms [b, t, f], with an optional mask `M.mask`."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from mmkd_jax.augment.rows import (
    STEPS,
    check_range,
    check_share,
    check_size,
    column,
    draw_value,
    each,
    in_order,
    in_steps,
    mask_of,
    total,
)
from mmkd_jax.core.model import Batch
from mmkd_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class SpecAugment:
    """SpecAugment: frequency and time masking of log-mel spectrograms.

    Formula: a frequency mask has width f ~ U{0 … F} and starts at U{0 … bands − f}; a time mask has width
    t ~ U{0 … min(T, ⌊p τ⌋)} and starts at U{0 … τ − t}, with τ the number of unpadded frames

    The paper's policy without time warping, which it found to matter least. Padding is neither counted nor masked.

    Attributes:
        bands: F, maximum width of a frequency mask; the paper's LibriSpeech policies use 27 of 80.
        band_blocks: number of frequency masks: 1 (LibriSpeech basic) or 2 (double).
        frames: T, maximum width of a time mask; the paper uses 100 frames of 10 ms.
        frame_blocks: number of time masks.
        share: p, maximum share of the recording that one time mask covers, 0 … 1.
        fill: fill value: "mean" of the recording, or a number in the units of the levels.
        modality: name in the batch; uint8 stays uint8.

    Raises:
        UserError: a size is below 0, a share is not in [0, 1], or F exceeds the number of bands.

    Source: Park et al., SpecAugment: A Simple Data Augmentation Method for Automatic Speech Recognition, 2019,
        https://arxiv.org/abs/1904.08779

    Example:
        >>> keys = jax.random.split(jax.random.key(0), 2)
        >>> SpecAugment(bands=2, frames=3)({"audio": jnp.ones((2, 8, 4), jnp.uint8)}, keys)["audio"].dtype
        dtype('uint8')
    """

    bands: int = 27
    band_blocks: int = 1
    frames: int = 100
    frame_blocks: int = 1
    share: int | float = 1.0
    fill: str | int | float = "mean"
    modality: str = "audio"

    def __post_init__(self):
        check_size(self, bands=self.bands, band_blocks=self.band_blocks)
        check_size(self, frames=self.frames, frame_blocks=self.frame_blocks)
        check_share(self, share=self.share)
        if isinstance(self.fill, str) and self.fill != "mean":
            raise UserError(f"SpecAugment: fill must be 'mean' or a number, not {self.fill!r}")

    def __call__(self, batch: Batch, keys: Key[Array, " b"]) -> Batch:
        x = column(batch, self.modality, self)
        if x.ndim != 3 or x.shape[2] < self.bands:
            raise UserError(f"{self}: {self.modality!r} is {list(x.shape)}; expected [b, t, f] with f ≥ {self.bands}")
        return {**batch, self.modality: each(self._one, keys, x, mask_of(batch, self.modality, x))}

    def _one(self, key, row, mask):
        _frames, bands = row.shape
        keys = jax.random.split(key, 2 * (self.band_blocks + self.frame_blocks)).reshape(-1, 2)
        rank, length = jnp.cumsum(mask) - 1, mask.sum()
        blank = jnp.zeros(row.shape, bool)
        for width_key, start_key in keys[: self.band_blocks]:
            width = jax.random.randint(width_key, (), 0, self.bands + 1)
            start = jax.random.randint(start_key, (), 0, bands - width + 1)
            at = jnp.arange(bands)
            blank |= ((at >= start) & (at < start + width))[None]
        for width_key, start_key in keys[self.band_blocks :]:
            most = jnp.minimum(self.frames, length * in_steps(self.share) // STEPS)
            width = jax.random.randint(width_key, (), 0, most + 1)
            start = jax.random.randint(start_key, (), 0, length - width + 1)
            blank |= ((rank >= start) & (rank < start + width))[:, None]
        fill = _mean(row, mask) if self.fill == "mean" else jnp.asarray(self.fill, row.dtype)
        return jnp.where(blank & mask[:, None], fill, row)


def _mean(row, mask):
    """Masked mean of the levels, rounded to nearest for integers."""
    inside = jnp.where(mask[:, None], row, jnp.zeros((), row.dtype))
    count = jnp.maximum(mask.sum() * row.shape[1], 1)
    if jnp.issubdtype(row.dtype, jnp.integer):
        return ((2 * inside.astype(jnp.int32).sum() + count) // (2 * count)).astype(row.dtype)
    return (total(inside.astype(jnp.float32).ravel()) / count.astype(jnp.float32)).astype(row.dtype)


@dataclasses.dataclass(frozen=True)
class Noise:
    """Additive white noise at an exact signal-to-noise ratio.

    Formula: y = x + z ‖x‖ / ‖z‖ 10^(−SNR / 20), z standard normal, SNR uniform in the range; norms exclude padding

    Silent recordings stay silent.

    Attributes:
        snr: lowest and highest signal-to-noise ratio, in dB.
        modality: name in the batch: a float waveform [b, n].

    Raises:
        UserError: the range is invalid, or the waveform is not a float array [b, n].

    Source: Ko et al., A Study on Data Augmentation of Reverberant Speech for Robust Speech Recognition, 2017,
        https://doi.org/10.1109/ICASSP.2017.7953152

    Example:
        >>> keys, x = jax.random.split(jax.random.key(0), 1), jnp.ones((1, 400))
        >>> noise = Noise(snr=(20, 20))({"waveform": x}, keys)["waveform"] - x
        >>> round(float(10 * jnp.log10((x**2).sum() / (noise**2).sum())), 3)
        20.0
    """

    snr: tuple[int | float, int | float] = (10, 30)
    modality: str = "waveform"

    def __post_init__(self):
        check_range(self, snr=self.snr)

    def drawn(self, keys: Key[Array, " b"]) -> Array:
        """Return the signal-to-noise ratio drawn for each row, in dB [b]."""
        return self._of_ratio(keys, lambda db: db)

    def _of_ratio(self, keys, function):
        return each(lambda key: draw_value(jax.random.fold_in(key, 0), *self.snr, function), keys)

    def __call__(self, batch: Batch, keys: Key[Array, " b"]) -> Batch:
        x = column(batch, self.modality, self)
        if x.ndim != 2 or not jnp.issubdtype(x.dtype, jnp.floating):
            raise UserError(f"{self}: {self.modality!r} is {x.dtype}{list(x.shape)}; expected floats [b, n]")
        scale = self._of_ratio(keys, lambda db: 10 ** (-db / 20))

        def one(key, row, mask, scale):
            signal = row.astype(jnp.float32)
            z = jnp.where(mask, jax.random.normal(jax.random.fold_in(key, 1), row.shape), 0)
            power = total(jnp.where(mask, signal * signal, 0))
            loud = scale * jnp.sqrt(power / jnp.maximum(total(z * z), jnp.finfo(jnp.float32).tiny))
            return jnp.where(mask, (signal + loud * z).astype(row.dtype), row)

        return {**batch, self.modality: each(one, keys, x, mask_of(batch, self.modality, x), scale)}


@dataclasses.dataclass(frozen=True)
class Shift:
    """Random time shift within the unpadded part; values shifted out are dropped.

    Attributes:
        most: maximum shift, in spectrogram frames or waveform samples; the shift is uniform in −most … most.
        fill: value shifted in, in the units of the input.
        modality: name in the batch.

    Raises:
        UserError: `most` is not an integer of at least 0.

    Source: Warden, Speech Commands: A Dataset for Limited-Vocabulary Speech Recognition, 2018,
        https://arxiv.org/abs/1804.03209, whose example code shifts by up to 100 ms

    Example:
        >>> keys = jax.random.split(jax.random.key(0), 1)
        >>> Shift(2)({"audio": jnp.ones((1, 6, 4))}, keys)["audio"].shape
        (1, 6, 4)
    """

    most: int
    fill: int | float = 0
    modality: str = "audio"

    def __post_init__(self):
        check_size(self, most=self.most)

    def __call__(self, batch: Batch, keys: Key[Array, " b"]) -> Batch:
        x = column(batch, self.modality, self)

        def one(key, row, mask):
            source = jnp.cumsum(mask) - 1 - jax.random.randint(key, (), -self.most, self.most + 1)
            moved = row[in_order(mask)[jnp.clip(source, 0, len(row) - 1)]]
            wide = (-1,) + (1,) * (row.ndim - 1)
            inside = ((source >= 0) & (source < mask.sum())).reshape(wide)
            return jnp.where(mask.reshape(wide), jnp.where(inside, moved, jnp.asarray(self.fill, row.dtype)), row)

        return {**batch, self.modality: each(one, keys, x, mask_of(batch, self.modality, x))}


@dataclasses.dataclass(frozen=True)
class Gain:
    """Random gain: volume perturbation.

    Formula: waveforms are multiplied by 10^(g / 20), levels increased by g · levels_per_db; g uniform in the range;
    padding is unchanged

    Attributes:
        db: lowest and highest gain g, in dB.
        levels_per_db: change of a level per dB: 1 for levels in dB, 0.1 for log10 of power, 0.5 for levels in steps of
            2 dB, as in AV-digits; None for a waveform.
        modality: name in the batch; uint8 levels stay uint8, clipped to 0 … 255.

    Raises:
        UserError: the range is invalid, or the waveform has an integer dtype.

    Example:
        >>> keys = jax.random.split(jax.random.key(0), 1)
        >>> Gain(db=(4, 4), levels_per_db=0.5, modality="audio")({"audio": jnp.ones((1, 1, 1))}, keys)["audio"].item()
        3.0
    """

    db: tuple[int | float, int | float] = (-6, 6)
    levels_per_db: int | float | None = None
    modality: str = "waveform"

    def __post_init__(self):
        check_range(self, db=self.db)

    def __call__(self, batch: Batch, keys: Key[Array, " b"]) -> Batch:
        x, per_db = column(batch, self.modality, self), self.levels_per_db
        whole = jnp.issubdtype(x.dtype, jnp.integer)
        if per_db is None and whole:
            raise UserError(f"{self}: {self.modality!r} is {x.dtype}; set levels_per_db, or pass a float waveform")

        def one(key, row, mask):
            if per_db is None:
                moved = row * draw_value(key, *self.db, lambda db: 10 ** (db / 20)).astype(row.dtype)
            elif whole:
                rise = draw_value(key, *self.db, lambda db: np.floor(db * per_db + 0.5)).astype(jnp.int32)
                moved = jnp.clip(row.astype(jnp.int32) + rise, 0, jnp.iinfo(row.dtype).max).astype(row.dtype)
            else:
                moved = row + draw_value(key, *self.db, lambda db: db * per_db).astype(row.dtype)
            return jnp.where(mask.reshape((-1,) + (1,) * (row.ndim - 1)), moved, row)

        return {**batch, self.modality: each(one, keys, x, mask_of(batch, self.modality, x))}
