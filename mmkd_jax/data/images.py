"""Image preprocessing on the host for pretrained encoders: images of any size to uint8 [n, h, w, 3]."""

import dataclasses
import math
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from PIL import Image

from mmkd_jax.data.picture_file import MAX_PIXELS, rgb
from mmkd_jax.data.processor_file import FILE, settings
from mmkd_jax.errors import UserError, choices


@dataclasses.dataclass(frozen=True)
class Pictures:
    """Image processor: resize and center crop. The model rescales and normalizes, on the device.

    Attributes:
        size: target height and width; an int is the length of the shorter side; None disables resizing.
        crop: height and width of the center crop, padded with black where an image is smaller; None disables cropping.
        resample: Pillow filter: 0 nearest, 1 Lanczos, 2 bilinear, 3 bicubic, 4 box, 5 Hamming.
        mean: mean of each channel, in 0 … 1; applied by the model.
        std: standard deviation of each channel; applied by the model.
        modality: name of the batch column.
        files: the processor files of the model folder, kept for saving.
        max_pixels: maximum number of pixels of an image, before and after resizing.
    """

    size: tuple[int, int] | int | None = (224, 224)
    crop: tuple[int, int] | None = None
    resample: int = 2
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    modality: str = "image"
    files: Mapping[str, bytes] = dataclasses.field(default_factory=dict, repr=False)
    max_pixels: int = MAX_PIXELS

    def __post_init__(self):
        if not (self.size is None or _is_side(self.size) or _is_pair(self.size)):
            raise UserError(
                f"images: size={self.size!r}; expected (height, width), one int for the shorter side, or None"
            )
        if not (self.crop is None or _is_pair(self.crop)):
            raise UserError(f"images: crop={self.crop!r}; expected (height, width), or None")
        if not _is_side(self.max_pixels) or self.max_pixels > 178_956_970:  # Pillow's own limit
            raise UserError(f"images: max_pixels={self.max_pixels!r}; expected a number of pixels, 1 … 178956970")
        if self.resample not in list(Image.Resampling):
            raise UserError(f"images: resample={self.resample!r}; expected one of Pillow's filters, 0 … 5")
        for name, values in (("mean", self.mean), ("std", self.std)):
            numbers_only = isinstance(values, tuple | list) and all(_is_number(x) for x in values)
            if not numbers_only or len(values) != 3 or (name == "std" and min(values) <= 0):
                raise UserError(f"images: {name}={values}; expected three finite numbers{' above 0' * (name == 'std')}")

    def __call__(
        self, pictures: Sequence[Any] | np.ndarray, *, rows: Sequence[int] | None = None
    ) -> dict[str, np.ndarray]:
        """Return the image column of a batch.

        Args:
            pictures: Pillow images, paths, or uint8 arrays [h, w], [h, w, 1], [h, w, 3] or [h, w, 4]; see
                `picture_file.rgb` for what their formats and metadata become.
            rows: number of each image in messages; None counts them.

        Raises:
            UserError: a single image instead of a sequence, an unsupported type or shape, a file that is damaged,
                truncated or no image, too many pixels, or images of different sizes without resizing or cropping.
        """
        one = isinstance(pictures, np.ndarray) and pictures.ndim < 4
        if one or isinstance(pictures, Image.Image | str | os.PathLike):
            raise UserError(f"{self.modality}: expected a sequence of images, got a single one: put it in a list")
        named = zip(range(len(pictures)) if rows is None else rows, pictures, strict=True)
        images = [self._process(i, p) for i, p in named]
        if len({x.shape for x in images}) > 1:
            raise UserError(
                f"{self.modality}: images have different sizes, {images[0].shape} and others: set size=(height, width) "
                "or crop=(height, width)"
            )
        return {self.modality: np.stack(images) if images else np.zeros((0, 1, 1, 3), np.uint8)}

    def row_spec(self, options: Mapping[str, Any]) -> dict[str, jax.ShapeDtypeStruct]:
        """Return shape and dtype of one row of the column, for `data.process`; no option of a call changes them.

        Raises:
            UserError: the shape depends on the image.
        """
        del options
        size = self.size if self.crop is None else self.crop
        if not isinstance(size, tuple):
            remedy = "set size=(height, width) or crop=(height, width), with dataclasses.replace"
            raise UserError(f"{self.modality}: size={size!r} without crop; rows of a data set have one shape: {remedy}")
        return {self.modality: jax.ShapeDtypeStruct((*size, 3), np.dtype(np.uint8))}

    def _process(self, i, picture):
        picture = rgb(picture, f"{self.modality} {i}", self.max_pixels)
        if self.size is not None:
            w, h = picture.size
            if isinstance(self.size, int):
                longer = int(self.size * max(w, h) / min(w, h))
                height, width = (longer, self.size) if h > w else (self.size, longer)
            else:
                height, width = self.size
            if max(width * height, width * h) > self.max_pixels:  # Pillow resizes rows first
                raise UserError(
                    f"{self.modality} {i}: {w} × {h} pixels, resized to {width} × {height}, need more than "
                    f"{self.max_pixels:,} pixels (max_pixels): crop it"
                )
            picture = picture.resize((width, height), Image.Resampling(self.resample))
        return np.asarray(picture if self.crop is None else _center_crop(picture, self.crop))


def _is_number(x):
    return isinstance(x, int | float) and not isinstance(x, bool) and math.isfinite(x)


def _is_side(x):
    return type(x) is int and 1 <= x < 2**31


def _is_pair(x):
    return isinstance(x, tuple) and len(x) == 2 and all(map(_is_side, x))


def _center_crop(picture, crop):
    """Center crop, padded with black where the image is smaller."""
    top, left = (picture.height - crop[0]) // 2, (picture.width - crop[1]) // 2
    return picture.crop((left, top, left + crop[1], top + crop[0]))


def read(folder: pathlib.Path, defaults: Mapping[str, Any], offset: bool = False) -> Pictures:
    """Create the image processor from the preprocessor_config.json of a published model.

    Formula: for a pixel p in 0 … 255, (s p − o − m) / d equals (p / 255 − mean) / std with mean = (m + o) / 255 s and
        std = d / 255 s; the file gives the rescale factor s, the offset o (0 or 1), m and d

    Args:
        folder: model folder.
        defaults: values of fields that the file lacks, or of all fields without a file; mean and std are m and d.
        offset: default for o and s if the file lacks them: 1 and 1/127.5 if True, 0 and 1/255 if False.

    Raises:
        UserError: the file requires processing other than resizing, cropping, rescaling and normalizing, or has values
            of another kind.
    """
    config, files = settings(folder)
    try:
        return _pictures(config, files, defaults, offset)
    except UserError as error:
        raise UserError(f"{folder / FILE}: {error}") from None
    except Exception as error:  # of values of any kind
        raise UserError(f"{folder / FILE} cannot be read ({type(error).__name__}: {error}): fetch it again") from None


def _pictures(config: Mapping[str, Any], files: Mapping[str, bytes], defaults: Mapping[str, Any], offset: bool):
    config = {k: x for k, x in config.items() if x is not None}  # as transformers writes for its defaults
    if wrong := [k for k, x in config.items() if k.startswith("do_") and not isinstance(x, bool)]:
        raise UserError(f"{wrong[0]} is {config[wrong[0]]!r}; expected true or false")
    fields: dict[str, Any] = {"mean": Pictures.mean, "std": Pictures.std} | dict(defaults)
    if not config.get("do_rescale", True):
        raise UserError("do_rescale=false is not supported: the model normalizes values in 0 … 1")
    if "size" in config:  # an int is the shorter side in families whose default is an int
        shorter = isinstance(config["size"], int) and isinstance(fields.get("size"), int)
        fields["size"] = config["size"] if shorter else _size(config["size"])
    if not config.get("do_resize", True):
        fields["size"] = None
    if "crop_size" in config:
        crop = _size(config["crop_size"])
        fields["crop"] = (crop, crop) if isinstance(crop, int) else crop
    if files and not config.get("do_center_crop", fields.get("crop") is not None and "crop_size" in config):
        fields["crop"] = None
    share = config.get("crop_pct", fields.pop("crop_pct", None))
    if share is not None and isinstance(edge := fields["size"], int):  # ConvNeXt: crops below 384 px only
        fields["size"], fields["crop"] = (int(edge / share) if edge < 384 else (edge, edge)), (edge, edge)
    fields |= {k: config[k] for k in ("resample",) if config.get(k) is not None}
    if not config.get("do_normalize", True):
        fields |= {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
    else:
        fields |= {k: tuple(config[f"image_{k}"]) for k in ("mean", "std") if f"image_{k}" in config}
    factor = config.get("rescale_factor", (2 if offset else 1) / 255)
    if not _is_number(factor) or factor <= 0:
        raise UserError(f"rescale_factor is {factor!r}; expected a number above 0")
    if not isinstance(config.get("offset", offset), bool):
        raise UserError(f"offset is {config['offset']!r}; expected true or false")
    width, shift = 255 * factor, float(config.get("offset", offset))
    fields["mean"] = tuple((m + shift) / width for m in fields["mean"])
    fields["std"] = tuple(d / width for d in fields["std"])
    return Pictures(**fields, files=files)


def _size(config):
    if isinstance(config, int):
        return (config, config)
    if not isinstance(config, dict):
        raise UserError(f"a size is {config!r}; expected a number or an object")
    sides = {k: x for k, x in config.items() if x is not None}
    if unknown := set(sides) - {"shortest_edge", "height", "width"}:
        raise UserError(f"a size has {choices(unknown)}, which is not supported")
    return sides["shortest_edge"] if "shortest_edge" in sides else (sides["height"], sides["width"])
