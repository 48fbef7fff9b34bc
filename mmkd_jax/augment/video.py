"""Temporal augmentations of videos [b, t, h, w, c]; for spatial ones use `images` with `modality="video"`."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from mmkd_jax.augment.rows import check_size, column, in_order, mask_of
from mmkd_jax.core.model import Batch
from mmkd_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class RandomCrop:
    """Random temporal crop: a clip with a random start and a random stride.

    Formula: frames start + stride · (0 … frames − 1), start uniform over all starts for which the clip fits

    If the video is too short for the stride, the largest stride that fits is used; if it has fewer frames than the
    clip, the remaining frames of the clip are masked. Only frames under `video.mask` count. In evaluation, models get
    the whole video.

    Attributes:
        frames: clip length in frames, at least 1.
        strides: strides to draw from, each at least 1.
        modality: name in the batch.

    Raises:
        UserError: frames or a stride is below 1, or the clip is longer than videos without a mask.

    Source: Feichtenhofer et al., SlowFast Networks for Video Recognition, 2019, https://arxiv.org/abs/1812.03982

    Example:
        >>> keys = jax.random.split(jax.random.key(0), 1)
        >>> RandomCrop(3, strides=(2,))({"video": jnp.arange(5).reshape(1, 5, 1, 1, 1)}, keys)["video"].ravel().tolist()
        [0, 2, 4]
    """

    frames: int
    strides: tuple[int, ...] = (1,)
    modality: str = "video"

    def __post_init__(self):
        check_size(self, 1, frames=self.frames)
        if not self.strides:
            raise UserError("RandomCrop: strides is empty; pass at least one, such as (1,)")
        for stride in self.strides:
            check_size(self, 1, strides=stride)

    def __call__(self, batch: Batch, keys: Key[Array, " b"]) -> Batch:
        x, mask_name = column(batch, self.modality, self), f"{self.modality}.mask"
        if mask_name not in batch and x.shape[1] < self.frames:
            raise UserError(f"{self}: {self.modality!r} has only {x.shape[1]} frames, and {mask_name!r} is missing")

        def one(key, row, mask):
            which, where = jax.random.split(key)
            length = mask.sum()
            stride = jnp.asarray(self.strides)[jax.random.randint(which, (), 0, len(self.strides))]
            fits = (length - 1) // max(self.frames - 1, 1)
            stride = jnp.clip(stride, 1, jnp.maximum(fits, 1))
            span = stride * (self.frames - 1) + 1
            start = jax.random.randint(where, (), 0, jnp.maximum(length - span, 0) + 1)
            at = start + stride * jnp.arange(self.frames)
            clip = row[in_order(mask)[jnp.minimum(at, len(row) - 1)]]
            inside = at < length
            return jnp.where(inside.reshape((-1,) + (1,) * (row.ndim - 1)), clip, jnp.zeros((), row.dtype)), inside

        clip, inside = jax.vmap(one)(keys, x, mask_of(batch, self.modality, x))
        return {**batch, self.modality: clip} | ({mask_name: inside} if mask_name in batch else {})
