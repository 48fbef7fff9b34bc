"""Preprocessing step: the processor of a pretrained model."""

import dataclasses
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mmkd_jax.data.filter_bank import FilterBank
from mmkd_jax.data.images import Pictures
from mmkd_jax.data.other_pictures import OtherPictures
from mmkd_jax.data.preprocess.row import Row, name_and_row, require
from mmkd_jax.data.processor import Processor
from mmkd_jax.data.sounds import Waves
from mmkd_jax.data.videos import Videos
from mmkd_jax.data.voice_windows import Windows
from mmkd_jax.data.whisper_spectrogram import LogMel
from mmkd_jax.errors import UserError, choices, shown

PROCESSORS = (Pictures, OtherPictures, Videos, Waves, FilterBank, LogMel, Windows)
"""Processors that can be saved with a student."""
_OWN = ("rows", "warn")


@dataclasses.dataclass(frozen=True)
class Processed:
    """Process pictures, recordings or videos with the processor of a pretrained model.

    Attributes:
        processor: processor of one modality, which names the columns, such as `pretrained.load(…).processor`.
        options: its options, as for `data.process`: rate, resample, channels, length or cut for recordings, repeat for
            videos.

    Example:
        >>> Processed(Pictures(size=(2, 2)))([np.zeros((4, 4, 3), np.uint8)], ["photo 0"])["image"].shape
        (1, 2, 2, 3)
    """

    processor: Processor
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        if not isinstance(self.processor, Processor):
            raise UserError(f"Processed: processor is a {type(self.processor).__name__}; expected one such as Pictures")
        if unknown := [k for k in self.options if k not in self._accepted]:
            name = type(self.processor).__name__
            raise UserError(f"{name} has no option {choices(unknown)}; it has: {choices(self._accepted)}")
        for k, x in self.options.items():
            if not isinstance(x, bool | int | float | np.generic | str | None):
                raise UserError(f"Processed: {k} is {shown(repr(x))}; expected a number, a text, True or False")

    def __call__(self, values: Sequence[Any], names: Sequence[str]) -> Mapping[str, np.ndarray]:
        """Return the columns.

        Raises:
            UserError: an error of the processor; names row and file.
        """
        how = dict(self.options)
        if "cut" in self._accepted:
            how = {"cut": how.get("length") is not None, "warn": False} | how
        return self.processor(values, rows=[name_and_row(name)[1] for name in names], **how)

    def row_spec(self, before: Row) -> Mapping[str, Row]:
        """Return kind, shape and dtype of each column's rows.

        Raises:
            UserError: the shape depends on the row, as of recordings without `length`.
        """
        kind: Any = "image" if isinstance(self.processor, Pictures | OtherPictures) else "video"
        kind = "waveform" if "rate" in self._accepted else kind
        require(before, "raw value", kind)
        if before.kind == "waveform" and self.options.get("rate") != before.rate:
            raise UserError(
                f"rate is {self.options.get('rate')}, but the waveforms have {before.rate} Hz: pass their rate"
            )
        columns = self.processor.row_spec(self.options)
        return {k: Row("array", x.shape, str(x.dtype)) for k, x in columns.items()}

    @property
    def _accepted(self) -> list[str]:
        """Options of the processor."""
        every = list(inspect.signature(type(self.processor).__call__).parameters)[2:]
        return [k for k in every if k not in _OWN]
