"""Pictures for pretrained image encoders, on the host: any size to uint8 [n, h, w, 3], as they were trained on."""

import dataclasses
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from mmkd_jax.data.processor_file import FILE, settings
from mmkd_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Pictures:
    """Resize, crop; what is left, rescaling and normalising, is the model's, on the device.

    Attributes:
        size: height and width to resize to; a number is that of the shorter side; None leaves pictures as they are.
        crop: height and width of the middle that is kept; None keeps all.
        resample: Pillow's filter: 0 nearest, 1 Lanczos, 2 bilinear, 3 bicubic.
        mean: of each channel, in 0 … 1: the model's.
        std: standard deviation of each channel: the model's.
        modality: the batch's column.
        files: those of the folder, to be saved again.
    """

    size: tuple[int, int] | int | None = (224, 224)
    crop: tuple[int, int] | None = None
    resample: int = 2
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    modality: str = "image"
    files: Mapping[str, bytes] = dataclasses.field(default_factory=dict, repr=False)

    def __call__(self, pictures: Sequence[Any] | np.ndarray) -> dict[str, np.ndarray]:
        """The column of a batch.

        Args:
            pictures: Pillow images, paths, or uint8 arrays [h, w], [h, w, 1], [h, w, 3] or [h, w, 4].

        Raises:
            UserError: one picture in the place of several, one of another kind, or pictures of unlike sizes where
                nothing makes them alike.
        """
        one = isinstance(pictures, np.ndarray) and pictures.ndim < 4
        if one or isinstance(pictures, Image.Image | str | os.PathLike):
            raise UserError(f"{self.modality}: one picture in the place of several: put it in a list")
        made = [self._made(i, p) for i, p in enumerate(pictures)]
        if len({m.shape for m in made}) > 1:
            raise UserError(f"{self.modality}: pictures of unlike sizes, {made[0].shape} and others: give them a size")
        return {self.modality: np.stack(made) if made else np.zeros((0, 1, 1, 3), np.uint8)}

    def _made(self, i, picture):
        if isinstance(picture, str | os.PathLike):
            picture = Image.open(picture)
        if isinstance(picture, np.ndarray):
            channels = picture.shape[2] if picture.ndim == 3 else 1
            if picture.dtype != np.uint8 or picture.ndim not in (2, 3) or channels not in (1, 3, 4):
                raise UserError(
                    f"{self.modality} {i}: {picture.dtype} of shape {list(picture.shape)}; expected uint8 [h, w, 3]"
                )
            picture = Image.fromarray(picture[..., 0] if picture.ndim == 3 and channels == 1 else picture)
        picture = picture.convert("RGB")
        if self.size is not None:
            w, h = picture.size
            if isinstance(self.size, int):
                longer = int(self.size * max(w, h) / min(w, h))
                height, width = (longer, self.size) if h > w else (self.size, longer)
            else:
                height, width = self.size
            picture = picture.resize((width, height), Image.Resampling(self.resample))
        return np.asarray(picture if self.crop is None else _middle(picture, self.crop))


def _middle(picture, crop):
    """The middle, with black where the picture is smaller."""
    top, left = (picture.height - crop[0]) // 2, (picture.width - crop[1]) // 2
    return picture.crop((left, top, left + crop[1], top + crop[0]))


def read(folder: pathlib.Path, defaults: Mapping[str, Any], offset: bool = False) -> Pictures:
    """As preprocessor_config.json of a published model says.

    Formula: (s p − o − m) / d of a pixel p in 0 … 255 is (p / 255 − mean) / std with mean = (m + o) / 255 s and std =
        d / 255 s; the file says the factor s, whether there is an offset o of 1, m and d

    Args:
        folder: of the model.
        defaults: fields for what the file does not say, or where there is none; mean and std are m and d.
        offset: whether o is 1 and s is 1/127.5 where the file does not say; else 0 and 1/255.

    Raises:
        UserError: the file asks for something else than resize, crop, rescaling and normalising.
    """
    said, files = settings(folder)
    fields: dict[str, Any] = {"mean": Pictures.mean, "std": Pictures.std} | dict(defaults)
    if not said.get("do_rescale", True):
        raise UserError(f"{folder / FILE} does not rescale, which is not supported: the model normalises 0 … 1")
    if "size" in said:  # one number is the shorter side's in families where it is by default
        shorter = isinstance(said["size"], int) and isinstance(fields.get("size"), int)
        fields["size"] = said["size"] if shorter else _size(said["size"])
    if not said.get("do_resize", True):
        fields["size"] = None
    if "crop_size" in said:
        crop = _size(said["crop_size"])
        fields["crop"] = (crop, crop) if isinstance(crop, int) else crop
    if files and not said.get("do_center_crop", fields.get("crop") is not None and "crop_size" in said):
        fields["crop"] = None
    if "crop_pct" in said and isinstance(edge := fields["size"], int):  # ConvNeXt's: crop, or from 384 px warp
        fields["size"], fields["crop"] = (int(edge / said["crop_pct"]) if edge < 384 else (edge, edge)), (edge, edge)
    fields |= {k: said[k] for k in ("resample",) if said.get(k) is not None}
    if not said.get("do_normalize", True):
        fields |= {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
    else:
        fields |= {k: tuple(said[f"image_{k}"]) for k in ("mean", "std") if f"image_{k}" in said}
    width, shift = 255 * said.get("rescale_factor", (2 if offset else 1) / 255), float(said.get("offset", offset))
    fields["mean"] = tuple((m + shift) / width for m in fields["mean"])
    fields["std"] = tuple(d / width for d in fields["std"])
    return Pictures(**fields, files=files)


def _size(said):
    if isinstance(said, int):
        return (said, said)
    return said["shortest_edge"] if "shortest_edge" in said else (said["height"], said["width"])
