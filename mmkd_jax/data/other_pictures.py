"""Image processors of classes that only transformers has, on the host: images of any size to float32 [n, h, w, c]."""

import dataclasses
import functools
import json
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from mmkd_jax import child_process
from mmkd_jax.data import with_transformers
from mmkd_jax.data.picture_column import column
from mmkd_jax.data.picture_file import MAX_PIXELS, rgb
from mmkd_jax.errors import UserError, shown


@dataclasses.dataclass(frozen=True)
class OtherPictures:
    """Image processor of transformers, which processes one image at a time. The model normalizes, on the device.

    Formula: x = v std + mean for pixel values v of transformers, so that black is 0, white is 1, and the model's
        (x − mean) / std is v

    Attributes:
        kind: name of the class in transformers, one that does not need PyTorch.
        settings: its settings, as JSON.
        version: version of transformers.
        shape: height and width of its images; None if they depend on the image.
        side: longest side of any picture in processing a small square.
        growth: that side over the square's, for large squares; 0 if `side` is fixed.
        mean: mean of each channel; applied by the model.
        std: standard deviation of each channel; applied by the model.
        modality: name of the batch column.
        files: the processor files of the model folder, kept for saving.
        max_pixels: maximum number of pixels of an image, before and after resizing, also if padded to a square.
        on_white: composite transparent Pillow images and arrays onto white, as `picture_file.rgb`.
    """

    kind: str
    settings: str
    version: str
    shape: tuple[int, int] | None
    side: int
    growth: float = 0.0
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    modality: str = "image"
    files: Mapping[str, bytes] = dataclasses.field(default_factory=dict, repr=False)
    max_pixels: int = MAX_PIXELS
    on_white: bool = False

    def __post_init__(self):
        _without_code(json.loads(self.settings), f"image processor {shown(repr(self.kind))}")

    @functools.cached_property
    def processor(self) -> Any:
        """The image processor of transformers, which is imported here.

        Raises:
            UserError: `kind` is no image processor there that needs no PyTorch.
        """
        import transformers
        from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING_NAMES

        if self.kind not in {each.get("pil") for each in IMAGE_PROCESSOR_MAPPING_NAMES.values()}:
            what = f"{shown(repr(self.kind))} is no image processor of transformers {transformers.__version__}"
            raise UserError(f"{what} that needs no PyTorch: install version {shown(self.version)}")
        return getattr(transformers, self.kind).from_dict(json.loads(self.settings))

    def __call__(
        self, pictures: Sequence[Any] | np.ndarray, *, rows: Sequence[int] | None = None
    ) -> dict[str, np.ndarray]:
        """Return the image column of a batch.

        Args:
            pictures: Pillow images, paths, or uint8 arrays, as of `Pictures`.
            rows: number of each image in messages; None counts them.

        Raises:
            UserError: an error of `Pictures`, or of transformers.
        """
        remedy = f"{self.kind} depends on their sizes: process images of one size"
        return column(self._process, pictures, self.modality, len(self.mean), np.float32, rows, remedy)

    def row_spec(self, options: Mapping[str, Any]) -> dict[str, jax.ShapeDtypeStruct]:
        """Return shape and dtype of one row of the column, for `data.process`; no option of a call changes them.

        Raises:
            UserError: the shape depends on the image.
        """
        del options
        if self.shape is None:
            what = f"{self.kind} returns images whose size depends on the picture; rows of a data set have one shape"
            raise UserError(f"{self.modality}: {what}: set size and crop_size in its preprocessor_config.json")
        return {self.modality: jax.ShapeDtypeStruct((*self.shape, len(self.mean)), np.dtype(np.float32))}

    def _process(self, i, picture):
        picture = rgb(picture, name := f"{self.modality} {i}", self.max_pixels, self.on_white)
        w, h = picture.size
        longest, shortest = max(w, h), min(w, h)
        made = max(longest**2, self.side**2 * longest / shortest, self.side * longest, self.growth**2 * w * h)
        if made > self.max_pixels:  # transformers has no limit
            raise UserError(
                f"{name}: {w} × {h} pixels may need {made:,.0f} in {self.kind}; expected at most {self.max_pixels:,} "
                "(max_pixels): crop or scale it, or use dataclasses.replace(processor, max_pixels=…)"
            )
        try:
            (x,) = self.processor(images=[picture], return_tensors="np")["pixel_values"]
        except Exception as error:  # of any class of transformers
            raise UserError(f"{name}: {self.kind} cannot process it ({_line(error)}): convert it") from error
        x = np.asarray(x, np.float32).transpose(1, 2, 0)
        if self.shape not in (None, x.shape[:2]) or x.shape[2] != len(self.mean):
            expected = f"{self.shape or 'any size'} and {len(self.mean)} channels"
            raise UserError(f"{name}: {self.kind} returns shape {list(x.shape)}; expected {expected}: crop or scale it")
        return x * np.asarray(self.std, np.float32) + np.asarray(self.mean, np.float32)


def _line(error: Exception) -> str:
    return shown((str(error).strip().splitlines() or [type(error).__name__])[0], 160)


def read(
    kind: str,
    config: Mapping[str, Any],
    files: Mapping[str, bytes],
    name: str,
    channels: int,
    limits: child_process.Limits,
) -> OtherPictures:
    """Create an image processor of transformers from the settings of a published model.

    It is first created in a child process, which processes a few pictures.

    Args:
        kind: name of its class, without the ending.
        config: content of preprocessor_config.json.
        files: the files, kept for saving.
        name: name of the file, used in messages.
        channels: number of channels that the model reads.
        limits: bounds of the child process, which has 20 seconds more, from when it has imported transformers.

    Raises:
        UserError: transformers does not have the class, or only with PyTorch; or it cannot be created, exceeds the
            limits, or returns anything but images of this number of channels.
    """
    what = f"image processor {shown(repr(kind))}"
    if not re.fullmatch(r"\w{1,64}", kind, re.ASCII):
        raise UserError(f"{what} is no name of a class: fetch the file again")
    _without_code(config, what)
    settings = json.dumps(dict(config), sort_keys=True)
    found = with_transformers.ask("picture_probe.py", json.dumps([kind, config]).encode(), f"{name}: {what}", limits)
    remedy = "replace the file by that of a class with equal pixels, such as ViTImageProcessor"
    if "refused" in found:
        raise UserError(f"{what} cannot be used with transformers ({shown(found['refused'], 200)}): {remedy}")
    if len(found["low"]) != channels:
        raise UserError(f"{what} returns {len(found['low'])} channels, but the model reads {channels}: {remedy}")
    low, high = (np.array(found[k]) for k in ("low", "high"))
    affine = bool((high > low).all())
    std = 1 / (high - low) if affine else np.ones(channels)
    mean = -low * std if affine else np.zeros(channels)
    return OtherPictures(
        found["kind"],
        settings,
        found["version"],
        None if found["shape"] is None else tuple(found["shape"]),
        found["side"],
        found["growth"],
        _rounded(mean),
        _rounded(std),
        files=files,
        on_white=found["on_white"],
    )


def read_again(processor: OtherPictures, limits: child_process.Limits) -> OtherPictures:
    """Return an image processor from a file, after `read` created it again in a child process.

    Raises:
        UserError: it cannot be created, or its pictures have other sizes than the file says.
    """
    kind = processor.kind.removesuffix("Pil").removesuffix("ImageProcessor")
    config = json.loads(processor.settings)
    found = read(kind, config, processor.files, "settings", len(processor.mean), limits)
    same = ("kind", "shape", "side", "growth")
    if other := [k for k in same if getattr(found, k) != getattr(processor, k)]:
        was, now = (shown(repr(getattr(x, other[0])), 60) for x in (processor, found))
        versions = f"transformers {shown(processor.version)}; here, with {found.version}, it is {now}"
        raise UserError(
            f"image processor {shown(repr(processor.kind))}: {other[0]} is {was} with {versions}: install the former"
        )
    if found.version != processor.version:
        versions = f"transformers {shown(processor.version)}, and is run by {found.version}"
        warnings.warn(
            f"image processor {found.kind!r} was written with {versions}: its pixels may differ", stacklevel=2
        )
    return dataclasses.replace(processor, version=found.version)


def _without_code(config: Any, what: str) -> None:
    if not isinstance(config, Mapping):
        raise UserError(f"settings of {what} are {shown(repr(config))}; expected an object")
    if others := [k for k in config if k == "auto_map" or k.endswith(("_file", "_files", "_path"))]:
        raise UserError(f"{others[0]} of {what} names code or files of its author, which is not supported")


def _rounded(values: np.ndarray) -> tuple[float, ...]:
    """Six digits, which are equal on all machines."""
    return tuple(float(f"{x:.6g}") + 0.0 for x in values)
