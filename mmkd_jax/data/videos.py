"""Video preprocessing on the host for pretrained encoders: frames of any size and number to uint8 [n, t, h, w, 3]."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from PIL import Image

from mmkd_jax.data.images import ImageProcessor
from mmkd_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Videos:
    """Video processor: sample frames, then resize and crop each with `Pictures`. The model normalizes, on the device.

    Formula: of n frames, the frames ⌊i n / t⌋ for i = 0 … t − 1

    Attributes:
        pictures: image processor applied to each frame.
        frames: t, number of frames to sample; None keeps all frames and pads shorter videos with black frames, which
            `video.mask` marks False.
        modality: name of the batch column.

    Example:
        >>> from mmkd_jax.data import Pictures
        >>> read = Videos(Pictures(size=(2, 2)), frames=3)
        >>> read([np.arange(6, dtype=np.uint8).reshape(6, 1, 1, 1)])["video"][0, :, 0, 0, 0].tolist()
        [0, 2, 4]
    """

    pictures: ImageProcessor
    frames: int | None = None
    modality: str = "video"

    @property
    def files(self) -> Mapping[str, bytes]:
        """The processor files of the model folder, kept for saving."""
        return self.pictures.files

    def __call__(
        self, videos: Sequence[Any] | np.ndarray, repeat: bool = False, *, rows: Sequence[int] | None = None
    ) -> dict[str, np.ndarray]:
        """Return the video columns of a batch.

        Args:
            videos: each a sequence of images accepted by `Pictures`, or a uint8 array [t, h, w, c].
            repeat: repeat frames of videos with too few frames; if False, raise an error.
            rows: number of each video in messages; None counts them.

        Raises:
            UserError: a single video instead of a sequence, a video without frames or with too few, frames of
                different sizes without resizing or cropping, or an unsupported image type.
        """
        one = (Image.Image, str, os.PathLike)
        if isinstance(videos, one) or any(
            isinstance(v, one) or (isinstance(v, np.ndarray) and v.ndim < 4) for v in videos
        ):
            raise UserError(f"{self.modality}: expected a sequence of videos, got a single one: put it in a list")
        named = zip(range(len(videos)) if rows is None else rows, videos, strict=True)
        clips = [self._process(i, v, repeat) for i, v in named]
        if other := [x.shape[1:] for x in clips if x.shape[1:] != clips[0].shape[1:]]:
            raise UserError(
                f"{self.modality}: videos have different sizes, {clips[0].shape[1:]} and {other[0]}: set `size`"
            )
        longest = max((len(x) for x in clips), default=0)
        dtype = self.pictures([])[self.pictures.modality].dtype
        whole = np.zeros((len(clips), longest, *(clips[0].shape[1:] if clips else (1, 1, 3))), dtype)
        mask = np.arange(longest)[None] < np.array([len(x) for x in clips])[:, None]
        for row, x in zip(whole, clips, strict=True):
            row[: len(x)] = x
        return {self.modality: whole} | ({f"{self.modality}.mask": mask} if self.frames is None else {})

    def row_spec(self, options: Mapping[str, Any]) -> dict[str, jax.ShapeDtypeStruct]:
        """Return shape and dtype of one row of the column, for `data.process`; no option of a call changes them.

        Raises:
            UserError: the shape depends on the video.
        """
        if self.frames is None:
            raise UserError(f"{self.modality}: frames=None; rows of a data set have one shape: Videos(…, frames=8)")
        (frame,) = self.pictures.row_spec(options).values()
        return {self.modality: jax.ShapeDtypeStruct((self.frames, *frame.shape), frame.dtype)}

    def _process(self, i, video, repeat):
        n, t = len(video), len(video) if self.frames is None else self.frames
        if n == 0 or (n < t and not repeat):
            expected = f"{t}: pass repeat=True to repeat frames" if n else "at least 1"
            raise UserError(f"{self.modality} {i}: {n} frames; expected {expected}")
        named = dataclasses.replace(self.pictures, modality=f"{self.modality} {i}, frame")
        return named([video[k] for k in np.arange(t) * n // t])[named.modality]
