"""RandAugment: random image operations at a shared magnitude."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from mmkd_jax.augment.operations import operations
from mmkd_jax.augment.rows import check_size, column, each, to_unit
from mmkd_jax.core.model import Batch
from mmkd_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class RandAugment:
    """RandAugment: n random operations out of 14, drawn for each row, all at one magnitude.

    The operations are identity, autocontrast, equalize, rotate, solarize, color, posterize, contrast, brightness,
    sharpness, shear and translate in x and in y, with a random direction where they have one. They follow Pillow, with
    256 levels and integer arithmetic, so uint8 stays uint8. Magnitude 10 is the end of AutoAugment's ranges: 30°, shear
    0.3, translation by 0.45 of the side, factors 1 ± 0.9, 4 bits, solarize from 0. A larger magnitude is stronger in
    all operations; at 0 only autocontrast and equalize have an effect. Libraries with a scale to 30 or 31 use three
    times this magnitude.

    Attributes:
        n: number of operations per row.
        magnitude: 0 … 10.
        fill: value of pixels outside the image in geometric operations, 0 … 255.
        modality: name in the batch; floats in [0, 1] are rounded to 256 levels and stay floats.

    Raises:
        UserError: n or the magnitude is out of range, or the images have neither 1 nor 3 channels.

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
                f"RandAugment: magnitude must be between 0 and 10, not {self.magnitude}; for a scale to 30, divide by 3"
            )

    def __call__(self, batch: Batch, keys: Key[Array, " b"]) -> Batch:
        x = column(batch, self.modality, self)
        if x.shape[-1] not in (1, 3):
            raise UserError(f"{self}: {self.modality!r} has {x.shape[-1]} channels; expected 1 or 3")
        whole = jnp.issubdtype(x.dtype, jnp.integer)
        levels = x if whole else jnp.round(jnp.clip(x, 0, 1) * 255)
        # Measured with two operations on CPU: looping over rows with only the drawn operations takes 1/7
        # (128 × 28 × 28 × 1) to 1/25 (16 × 224 × 224 × 3) of the time of all 14 on all rows. Accelerators would idle.
        changed = jax.lax.platform_dependent(
            keys, levels.astype(jnp.int32), cpu=self._in_a_loop, default=lambda keys, x: each(self._one, keys, x)
        )
        return {**batch, self.modality: changed.astype(x.dtype) if whole else to_unit(changed, 255).astype(x.dtype)}

    def _in_a_loop(self, keys, x):
        return jax.lax.map(lambda row: self._one(*row), (keys, x))

    def _one(self, key, row):
        choices = list(operations(self.magnitude, self.fill).values())

        def frame(i, picture, sign):
            return jax.lax.switch(i, choices, picture, sign)

        for step_key in jax.random.split(key, self.n) if self.n else ():
            which, direction = jax.random.split(step_key)
            i = jax.random.randint(which, (), 0, len(choices))
            sign = 2 * jax.random.randint(direction, (), 0, 2) - 1
            row = frame(i, row, sign) if row.ndim == 3 else jax.vmap(frame, (None, 0, None))(i, row, sign)
        return row
