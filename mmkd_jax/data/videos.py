"""Videos for pretrained encoders, on the host: pictures of any size and number to uint8 [n, t, h, w, 3]."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from mmkd_jax.data.images import Pictures
from mmkd_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Videos:
    """Choose frames, resize and crop each as `Pictures` does; normalising is the model's, on the device.

    Formula: of n frames, ⌊i n / t⌋ for i = 0 … t − 1

    Attributes:
        pictures: what is done with a frame.
        frames: t, how many the model takes; None keeps all, and fills up shorter videos with black ones, of which
            `video.mask` says that they are none.
        modality: the batch's column.

    Example:
        >>> read = Videos(Pictures(size=(2, 2)), frames=3)
        >>> read([np.arange(6, dtype=np.uint8).reshape(6, 1, 1, 1)])["video"][0, :, 0, 0, 0].tolist()
        [0, 2, 4]
    """

    pictures: Pictures
    frames: int | None = None
    modality: str = "video"

    @property
    def files(self) -> Mapping[str, bytes]:
        """Those of the folder, to be saved again."""
        return self.pictures.files

    def __call__(self, videos: Sequence[Any] | np.ndarray, repeat: bool = False) -> dict[str, np.ndarray]:
        """The columns of a batch.

        Args:
            videos: each a sequence of pictures, as `Pictures` takes them, or a uint8 array [t, h, w, c].
            repeat: whether a video that has too few frames shows them several times; it is refused otherwise.

        Raises:
            UserError: one video in the place of several, one without frames or with too few, frames of unlike sizes
                where nothing makes them alike, or what is no picture.
        """
        one = (Image.Image, str, os.PathLike)
        if isinstance(videos, one) or any(
            isinstance(v, one) or isinstance(v, np.ndarray) and v.ndim < 4 for v in videos
        ):
            raise UserError(f"{self.modality}: one video in the place of several: put it in a list")
        made = [self._made(i, v, repeat) for i, v in enumerate(videos)]
        if unlike := [m.shape[1:] for m in made if m.shape[1:] != made[0].shape[1:]]:
            raise UserError(
                f"{self.modality}: videos of unlike sizes, {made[0].shape[1:]} and {unlike[0]}: give them a size"
            )
        longest = max((len(m) for m in made), default=0)
        whole = np.zeros((len(made), longest, *(made[0].shape[1:] if made else (1, 1, 3))), np.uint8)
        mask = np.arange(longest)[None] < np.array([len(m) for m in made])[:, None]
        for row, m in zip(whole, made, strict=True):
            row[: len(m)] = m
        return {self.modality: whole} | ({f"{self.modality}.mask": mask} if self.frames is None else {})

    def _made(self, i, video, repeat):
        n, t = len(video), len(video) if self.frames is None else self.frames
        if n == 0 or n < t and not repeat:
            mend = f"{t}: repeat=True shows some several times" if n else "at least 1"
            raise UserError(f"{self.modality} {i}: {n} frames; expected {mend}")
        named = dataclasses.replace(self.pictures, modality=f"{self.modality} {i}, frame")
        return named([video[k] for k in np.arange(t) * n // t])[named.modality]
