"""Augmentations of videos [b, t, h, w, c] in time; those of `images` with `modality="video"` hold for all frames."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from mmkd_jax.augment.rows import check_size, column, in_order, mask_of
from mmkd_jax.errors import UserError
from mmkd_jax.views import Batch


@dataclasses.dataclass(frozen=True)
class Crop:
    """A clip of some frames: a random start, a random stride of those that are given.

    Formula: frames start + stride · (0 … frames − 1), start uniform among those for which all frames are there

    Where the video is too short for the stride, the largest is taken that fits; where it has fewer frames than the
    clip, the clip's mask says so. Frames are counted under `video.mask`. Outside training a model gets the whole video.

    Attributes:
        frames: of the clip, at least 1.
        strides: to choose from, each at least 1.
        modality: name in the batch.

    Raises:
        UserError: frames or strides below 1; a clip that is longer than videos without a mask.

    Source: Feichtenhofer et al., SlowFast Networks for Video Recognition, 2019, https://arxiv.org/abs/1812.03982

    Example:
        >>> keys = jax.random.split(jax.random.key(0), 1)
        >>> Crop(3, strides=(2,))({"video": jnp.arange(5).reshape(1, 5, 1, 1, 1)}, keys)["video"].ravel().tolist()
        [0, 2, 4]
    """

    frames: int
    strides: tuple[int, ...] = (1,)
    modality: str = "video"

    def __post_init__(self):
        check_size(self, 1, frames=self.frames)
        if not self.strides:
            raise UserError("Crop: strides is empty; give at least one, such as (1,)")
        for stride in self.strides:
            check_size(self, 1, strides=stride)

    def __call__(self, batch: Batch, keys: Key[Array, " b"]) -> Batch:
        x, told = column(batch, self.modality, self), f"{self.modality}.mask"
        if told not in batch and x.shape[1] < self.frames:
            raise UserError(f"{self}: {self.modality!r} has {x.shape[1]} frames, and no {told!r} that could tell fewer")

        def one(key, row, mask):
            which, where = jax.random.split(key)
            there = mask.sum()
            stride = jnp.asarray(self.strides)[jax.random.randint(which, (), 0, len(self.strides))]
            fits = (there - 1) // max(self.frames - 1, 1)
            stride = jnp.clip(stride, 1, jnp.maximum(fits, 1))
            span = stride * (self.frames - 1) + 1
            start = jax.random.randint(where, (), 0, jnp.maximum(there - span, 0) + 1)
            at = start + stride * jnp.arange(self.frames)
            clip = row[in_order(mask)[jnp.minimum(at, len(row) - 1)]]
            inside = at < there
            return jnp.where(inside.reshape((-1,) + (1,) * (row.ndim - 1)), clip, jnp.zeros((), row.dtype)), inside

        clip, inside = jax.vmap(one)(keys, x, mask_of(batch, self.modality, x))
        return {**batch, self.modality: clip} | ({told: inside} if told in batch else {})
