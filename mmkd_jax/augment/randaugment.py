"""RandAugment: a few operations at random, all at one magnitude."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from mmkd_jax.augment.operations import operations
from mmkd_jax.augment.rows import check_size, column, each, to_unit
from mmkd_jax.errors import UserError
from mmkd_jax.views import Batch


@dataclasses.dataclass(frozen=True)
class RandAugment:
    """Some of the paper's 14 operations, one after the other, drawn anew for each row, all at one magnitude.

    The operations are identity, autocontrast, equalize, rotate, solarize, color, posterize, contrast, brightness,
    sharpness, shear and translate by x and by y; what has a direction takes one at random. They are Pillow's, on 256
    grey levels and in integers, so uint8 stays uint8. Magnitude 10 is the largest of AutoAugment's ranges: 30°, a shear
    of 0.3, a shift by 0.45 of the side, factors 1 ± 0.9, 4 bits, solarize from 0 on; a larger one becomes stronger, a
    smaller one weaker, in all operations, and at 0 only autocontrast and equalize change anything. Libraries that count
    to 30 or 31 call three times the number the same.

    Attributes:
        n: operations on a row.
        magnitude: 0 … 10.
        fill: what geometric operations show from outside, 0 … 255.
        modality: name in the batch; floats in [0, 1] are rounded to 256 levels and stay floats.

    Raises:
        UserError: n or magnitude out of range; pictures that have neither 1 nor 3 channels.

    Source: Cubuk et al., RandAugment: Practical Automated Data Augmentation with a Reduced Search Space, 2020,
        https://arxiv.org/abs/1909.13719

    Example:
        >>> keys = jax.random.split(jax.random.key(0), 2)
        >>> RandAugment(2, 9)({"image": jnp.zeros((2, 8, 8, 3), jnp.uint8)}, keys)["image"].dtype
        dtype('uint8')
    """

    n: int = 2
    magnitude: int | float = 9
    fill: int = 128
    modality: str = "image"

    def __post_init__(self):
        check_size(self, n=self.n)
        check_size(self, fill=self.fill)
        if not 0 <= self.magnitude <= 10:
            raise UserError(
                f"RandAugment: magnitude must be between 0 and 10, not {self.magnitude}; on a scale to 30 divide by 3"
            )

    def __call__(self, batch: Batch, keys: Key[Array, " b"]) -> Batch:
        x = column(batch, self.modality, self)
        if x.shape[-1] not in (1, 3):
            raise UserError(f"{self}: {self.modality!r} has {x.shape[-1]} channels; expected 1 or 3")
        whole = jnp.issubdtype(x.dtype, jnp.integer)
        levels = x if whole else jnp.round(jnp.clip(x, 0, 1) * 255)
        # measured, two operations, CPU: a loop over rows that runs the drawn operations takes a 7th (128 × 28 × 28 × 1)
        # to a 25th (16 × 224 × 224 × 3) of the time of all 14 on all rows; on accelerators a loop would leave them idle
        changed = jax.lax.platform_dependent(
            keys, levels.astype(jnp.int32), cpu=self._in_a_loop, default=lambda keys, x: each(self._one, keys, x)
        )
        return {**batch, self.modality: changed.astype(x.dtype) if whole else to_unit(changed, 255).astype(x.dtype)}

    def _in_a_loop(self, keys, x):
        return jax.lax.map(lambda now: self._one(*now), (keys, x))

    def _one(self, key, row):
        made = list(operations(self.magnitude, self.fill).values())

        def frame(i, picture, sign):
            return jax.lax.switch(i, made, picture, sign)

        for now in jax.random.split(key, self.n) if self.n else ():
            which, direction = jax.random.split(now)
            i = jax.random.randint(which, (), 0, len(made))
            sign = 2 * jax.random.randint(direction, (), 0, 2) - 1
            row = frame(i, row, sign) if row.ndim == 3 else jax.vmap(frame, (None, 0, None))(i, row, sign)
        return row
