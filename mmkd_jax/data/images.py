"""Image preprocessing on the host for pretrained encoders: images of any size to uint8 [n, h, w, c]."""

import dataclasses
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from PIL import Image

from mmkd_jax import child_process
from mmkd_jax.data import other_pictures, processor_file
from mmkd_jax.data.other_pictures import OtherPictures
from mmkd_jax.data.picture_column import column
from mmkd_jax.data.picture_file import MAX_PIXELS, rgb
from mmkd_jax.data.processor_file import FILE, settings
from mmkd_jax.errors import UserError, choices, shown


@dataclasses.dataclass(frozen=True)
class Pictures:
    """Image processor: resize and center crop. The model rescales and normalizes, on the device.

    Attributes:
        size: target height and width; an int is the length of the shorter side; None disables resizing.
        crop: height and width of the center crop, padded with black where an image is smaller; None disables cropping.
        resample: Pillow filter: 0 nearest, 1 Lanczos, 2 bilinear, 3 bicubic, 4 box, 5 Hamming.
        mean: mean of each channel, in 0 … 1; applied by the model. One value for models that read gray images.
        std: standard deviation of each channel; applied by the model.
        modality: name of the batch column.
        files: the processor files of the model folder, kept for saving.
        max_pixels: maximum number of pixels of an image, before and after resizing.
        longest: maximum length of the longer side if `size` is that of the shorter side; None for no maximum.
        on_white: composite transparent Pillow images and arrays onto white, as `picture_file.rgb`.
    """

    size: tuple[int, int] | int | None = (224, 224)
    crop: tuple[int, int] | None = None
    resample: int = 2
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    modality: str = "image"
    files: Mapping[str, bytes] = dataclasses.field(default_factory=dict, repr=False)
    max_pixels: int = MAX_PIXELS
    longest: int | None = None
    on_white: bool = False

    def __post_init__(self):
        if not (self.size is None or _is_side(self.size) or _is_pair(self.size)):
            raise UserError(
                f"images: size={self.size!r}; expected (height, width), one int for the shorter side, or None"
            )
        if self.longest is not None and not (_is_side(self.longest) and isinstance(self.size, int)):
            raise UserError(f"images: longest={self.longest!r}, size={self.size!r}; expected two numbers, or None")
        if not (self.crop is None or _is_pair(self.crop)):
            raise UserError(f"images: crop={self.crop!r}; expected (height, width), or None")
        if not _is_side(self.max_pixels) or self.max_pixels > 178_956_970:  # Pillow's own limit
            raise UserError(f"images: max_pixels={self.max_pixels!r}; expected a number of pixels, 1 … 178956970")
        if self.resample not in list(Image.Resampling):
            raise UserError(f"images: resample={self.resample!r}; expected one of Pillow's filters, 0 … 5")
        for name, values in (("mean", self.mean), ("std", self.std)):
            numbers_only = isinstance(values, tuple | list) and all(_is_number(x) for x in values)
            channels = 1 if len(self.mean) == 1 else 3
            if not numbers_only or len(values) != channels or (name == "std" and min(values) <= 0):
                count = "one finite number" if channels == 1 else "three finite numbers"
                raise UserError(f"images: {name}={values}; expected {count}{' above 0' * (name == 'std')}")

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
                truncated or no image, too many pixels, colors for a model that reads gray images, or images of
                different sizes without resizing or cropping.
        """
        remedy = "set size=(height, width) or crop=(height, width)"
        return column(self._process, pictures, self.modality, len(self.mean), np.uint8, rows, remedy)

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
        return {self.modality: jax.ShapeDtypeStruct((*size, len(self.mean)), np.dtype(np.uint8))}

    def _process(self, i, picture):
        picture = rgb(picture, name := f"{self.modality} {i}", self.max_pixels, self.on_white)
        if len(self.mean) == 1:
            picture = _gray(picture, name)
        if self.size is not None:
            w, h = picture.size
            height, width = _resized(h, w, self.size, self.longest) if isinstance(self.size, int) else self.size
            if max(width * height, width * h) > self.max_pixels:  # Pillow resizes rows first
                raise UserError(
                    f"{name}: {w} × {h} pixels, resized to {width} × {height}, need more than "
                    f"{self.max_pixels:,} pixels (max_pixels): crop it"
                )
            picture = picture.resize((width, height), Image.Resampling(self.resample))
        x = np.asarray(picture if self.crop is None else _center_crop(picture, self.crop))
        return x[..., None] if len(self.mean) == 1 else x


def _is_number(x):
    return isinstance(x, int | float) and not isinstance(x, bool) and math.isfinite(x)


def _is_side(x):
    return type(x) is int and 1 <= x < 2**31


def _is_pair(x):
    return isinstance(x, tuple) and len(x) == 2 and all(map(_is_side, x))


def _resized(height, width, shorter, longest):
    """Height and width after resizing the shorter side, or the longer one where that would exceed its maximum."""
    low, high = min(height, width), max(height, width)
    exact = float(shorter)
    if longest is not None and high / low * shorter > longest:
        exact = longest * low / high
    shorter = max(1, round(exact))
    longer = high if shorter == low else max(1, int(exact * high / low))
    return (longer, shorter) if height > width else (shorter, longer)


def _gray(picture, name):
    """The one channel of an image whose three channels are equal."""
    red, green, blue = picture.split()
    if not red.tobytes() == green.tobytes() == blue.tobytes():
        raise UserError(f"{name} has colors, but this model reads gray images: convert it")
    return red


def _center_crop(picture, crop):
    """Center crop, padded with black where the image is smaller."""
    top, left = (picture.height - crop[0]) // 2, (picture.width - crop[1]) // 2
    return picture.crop((left, top, left + crop[1], top + crop[0]))


ImageProcessor = Pictures | OtherPictures


def read(
    folder: pathlib.Path,
    defaults: Mapping[str, Any],
    offset: bool = False,
    channels: int = 3,
    limits: child_process.Limits = child_process.DEFAULT,
) -> ImageProcessor:
    """Create the image processor from the preprocessor_config.json of a published model.

    Classes whose pixels `Pictures` does not have are run by transformers.

    Formula: for a pixel p in 0 … 255, (s p − o − m) / d equals (p / 255 − mean) / std with mean = (m + o) / 255 s and
        std = d / 255 s; the file gives the rescale factor s, the offset o (0 or 1), m and d

    Args:
        folder: model folder.
        defaults: values of fields that the file lacks, or of all fields without a file; mean and std are m and d, and
            kind is transformers' class of the family as `processor_file.kind` names it.
        offset: default for o and s if the file lacks them: 1 and 1/127.5 if True, 0 and 1/255 if False.
        channels: number of channels that the model reads: 1 for gray images.
        limits: bounds of the child process that first runs a class of transformers.

    Raises:
        UserError: the file requires processing other than resizing, cropping, rescaling and normalizing, and not by a
            class of transformers that needs no PyTorch; or it has values of another kind.
    """
    config, files = settings(folder)
    channels = 1 if channels == 1 else 3
    try:
        kind = processor_file.kind(config, defaults.get("kind", ""))
        if kind and kind not in processor_file.OURS:
            return other_pictures.read(kind, config, files, str(folder / FILE), channels, limits)
        return _pictures(config, files, defaults, offset, channels)
    except UserError as error:
        raise (error if str(error).startswith(str(folder)) else error.within(str(folder / FILE))) from None
    except Exception as error:  # of values of any kind
        raise UserError(f"{folder / FILE} cannot be read ({type(error).__name__}: {error}): fetch it again") from None


def _pictures(config: Mapping[str, Any], files: Mapping[str, bytes], defaults: Mapping[str, Any], offset, channels):
    kind = processor_file.kind(config, defaults.get("kind", ""))
    on_white = config.get("do_convert_rgb", kind in processor_file.ON_WHITE)
    cropped = kind == "ConvNext" or (not kind and "crop_pct" in config)
    config = {k: x for k, x in config.items() if x is not None}  # as transformers writes for its defaults
    if wrong := [k for k, x in config.items() if k.startswith("do_") and not isinstance(x, bool)]:
        raise UserError(f"{wrong[0]} is {config[wrong[0]]!r}; expected true or false")
    fields: dict[str, Any] = {"mean": Pictures.mean, "std": Pictures.std} | dict(defaults)
    fields |= {"on_white": bool(on_white)}
    fields.pop("kind", None)
    if not config.get("do_rescale", True):
        raise UserError("do_rescale=false is not supported: the model normalizes values in 0 … 1")
    if "size" in config:  # an int is the shorter side in families whose default is an int
        shorter = isinstance(config["size"], int) and isinstance(fields.get("size"), int)
        fields["size"] = config["size"] if shorter else _size(config["size"])
        if isinstance(config["size"], dict) and kind != "ConvNext":
            fields["longest"] = config["size"].get("longest_edge")
    if not config.get("do_resize", True):
        fields |= {"size": None, "longest": None}
    if "crop_size" in config:
        crop = _size(config["crop_size"])
        fields["crop"] = (crop, crop) if isinstance(crop, int) else crop
    if files and not config.get("do_center_crop", fields.get("crop") is not None and "crop_size" in config):
        fields["crop"] = None
    if ((files and cropped) or "crop_pct" in fields | config) and isinstance(edge := fields["size"], int):
        share = config.get("crop_pct", fields.get("crop_pct", 224 / 256))
        fields["size"] = int(edge / share) if edge < 384 else (edge, edge)  # ConvNeXt crops below 384 px only
        fields |= {"crop": (edge, edge), "longest": None}
    fields.pop("crop_pct", None)
    fields |= {k: config[k] for k in ("resample",) if config.get(k) is not None}
    if not config.get("do_normalize", True):
        fields |= {"mean": (0.0,) * channels, "std": (1.0,) * channels}
    else:
        fields |= {k: _per_channel(config.get(f"image_{k}", fields[k]), k, channels) for k in ("mean", "std")}
    factor = config.get("rescale_factor", (2 if offset else 1) / 255)
    if not _is_number(factor) or factor <= 0:
        raise UserError(f"rescale_factor is {factor!r}; expected a number above 0")
    if not isinstance(config.get("offset", offset), bool):
        raise UserError(f"offset is {config['offset']!r}; expected true or false")
    width, shift = 255 * factor, float(config.get("offset", offset))
    fields["mean"] = tuple((m + shift) / width for m in fields["mean"])
    fields["std"] = tuple(d / width for d in fields["std"])
    return Pictures(**fields, files=files)


def _per_channel(values, name, channels):
    """A mean or standard deviation per channel, of a number or a list."""
    if not (_is_number(values) or isinstance(values, list | tuple)):
        raise UserError(f"image_{name} is {shown(repr(values))}; expected a number or a list of them")
    values = (values,) * channels if _is_number(values) else tuple(values)
    if len(values) == 3 and channels == 1 and len(set(values)) == 1:
        values = values[:1]
    if len(values) != channels:
        count = f"{len(values)} value{'s' * (len(values) > 1)}"
        raise UserError(
            f"image_{name} has {count}, but the model reads images of {channels} channel{'s' * (channels > 1)}"
        )
    return values


def _size(config):
    if isinstance(config, int):
        return (config, config)
    if not isinstance(config, dict):
        raise UserError(f"a size is {config!r}; expected a number or an object")
    sides = {k: x for k, x in config.items() if x is not None}
    if "longest_edge" in sides and "shortest_edge" not in sides:
        raise UserError("a size has longest_edge without shortest_edge, which is not supported")
    if unknown := set(sides) - {"shortest_edge", "longest_edge", "height", "width"}:
        raise UserError(f"a size has {choices(unknown)}, which is not supported")
    return sides["shortest_edge"] if "shortest_edge" in sides else (sides["height"], sides["width"])
