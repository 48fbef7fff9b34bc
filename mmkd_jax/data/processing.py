"""Columns of a data set that a model's processor makes from pictures, recordings or videos, as rows are read."""

import dataclasses
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from mmkd_jax.data.dataset import Dataset
from mmkd_jax.data.preprocess.preprocessing import followed
from mmkd_jax.data.preprocess.processed import Processed
from mmkd_jax.data.processor import Processor
from mmkd_jax.errors import UserError, choices


def process(
    dataset: Dataset, processor: Callable[..., dict[str, np.ndarray]], column: str = "", remove: bool = True, **options
) -> Dataset:
    """Process a data set's pictures, recordings or videos lazily, with the processor of a model.

    Rows without the modality, whose `present.MODALITY` is False, are not read: their columns are zeros. Only the paths
    are part of the fingerprint: the files must not change. The step is declared in `preprocess`, so that a student
    takes it along, unless the processor is not of this library.

    Args:
        dataset: data set with a raw column: paths, uint8 images or waveforms; for videos, uint8 [t, h, w, c] or the
            paths of the frames, [t].
        processor: processor of a single modality, such as `pretrained.load(…).processor`; for CLIP, its `image`.
        column: name of the raw column; by default the processor's modality.
        remove: remove the raw column; False leaves it for the processor of a further model.
        **options: options of the processor: rate, resample, channels, length or cut for recordings, repeat for videos.
            Recordings longer than `length` are truncated. Without `length`, those that are too long for the model are
            refused, or truncated with cut=True.

    Returns:
        The data set with the processor's columns, such as `image`, or `audio` and `audio.mask`.

    Raises:
        UserError: the column does not exist, the processor has no such option, the shape of a row is not fixed (pass
            `length` for recordings), or a column has the name of another. Reading a row raises the processor's errors,
            which name the row and its file.

    Example:
        >>> from mmkd_jax.data import Pictures, from_columns
        >>> rows = from_columns({"photo": np.zeros((3, 10, 20, 3), np.uint8)}, "three")
        >>> process(rows, Pictures(size=(4, 4)), "photo").columns["image"].shape
        (3, 4, 4, 3)
    """
    if not isinstance(processor, Processor):
        remedy = "pass that of an image, audio or video encoder, such as Pictures; texts are read by data.tokenize"
        if isinstance(image := getattr(processor, "image", None), Processor):
            remedy = f"pass its .image, a {type(image).__name__}, and its .text to data.tokenize"
        raise UserError(f"processor is a {type(processor).__name__}: {remedy}")
    column = column or processor.modality
    if column not in dataset.spec:
        raise UserError(f"no column {column!r} to process; available: {choices(dataset.spec)}")
    step = Processed(processor, options)
    made = processor.row_spec(options)
    spec = {k: s for k, s in dataset.spec.items() if k != column or not remove}
    if both := [k for k in made if k in spec]:
        remedy = f"rename the input of one model: pretrained.with_inputs(loaded, {processor.modality}='…')"
        raise UserError(f"two columns are named {both[0]!r}: {remedy}")
    mask = f"present.{processor.modality}"

    def fetch(rows):
        columns = dataset.take(rows)
        there = np.flatnonzero(columns[mask]) if mask in columns else np.arange(len(rows))
        raw = [_value(columns[column][i]) for i in there]
        found = dict(step(raw, [f"{column} {rows[i]}" for i in there])) if raw else {}
        if len(there) < len(rows):
            whole = {k: np.zeros((len(rows), *s.shape), s.dtype) for k, s in made.items()}
            for k, x in found.items():
                whole[k][there] = x
            found = whole
        return {k: x for k, x in columns.items() if k in spec} | found

    settings = {"processor": repr(processor), "column": column, "options": {k: repr(x) for k, x in options.items()}}
    return dataclasses.replace(
        dataset,
        spec=spec | made,
        fetch=fetch,
        fingerprint={**dataset.fingerprint, "processed": [*dataset.fingerprint.get("processed", ()), settings]},
        preprocess=followed(dataset.preprocess, column, step, remove),
    )


def _value(x: Any) -> Any:
    """Return a raw value as processors take it: paths as strings."""
    if isinstance(x, bytes):
        return os.fsdecode(x)
    return [_value(v) for v in x] if isinstance(x, np.ndarray) and x.dtype.kind in "SUO" else x
