"""Data sets from folders and builders of TensorFlow Datasets, without TensorFlow."""

import dataclasses
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from mmkd_jax import files, foreign_files
from mmkd_jax.data import dataset
from mmkd_jax.data.dataset import Dataset
from mmkd_jax.data.preprocess import Resample
from mmkd_jax.data.raw import contents, streamed
from mmkd_jax.data.raw.chains import Inputs, columns_of
from mmkd_jax.errors import UserError, choices, shown

_CLASSES = "tensorflow_datasets.core.features."
_TENSOR, _SEQUENCE = f"{_CLASSES}tensor_feature.Tensor", f"{_CLASSES}sequence_feature.Sequence"
_READ = {
    "image": f"{_CLASSES}image_feature.Image",
    "audio": f"{_CLASSES}audio_feature.Audio",
    "text": f"{_CLASSES}text_feature.Text",
    "classLabel": f"{_CLASSES}class_label_feature.ClassLabel",
    "video": f"{_CLASSES}video_feature.Video",
    "sequence": _SEQUENCE,
    "tensor": _TENSOR,
}
_SCALAR = f"{_CLASSES}scalar.Scalar"


def from_tfds(
    source: str | os.PathLike | Any,
    inputs: Inputs,
    *,
    label: str | None = None,
    train: str = "train",
    rename: Mapping[str, str] | None = None,
    cache: str | os.PathLike | None = None,
) -> dict[str, Dataset]:
    """Create data sets from a prepared folder or builder of TensorFlow Datasets, in the format ArrayRecord.

    Rows are read and go through the steps when a loader asks for them. TensorFlow is not imported: folders that it
    prepared with `Audio` or `Video` are read as well. Integers of `Audio` are samples of 16 bits; `Resample` reads them
    at the sample rate of the feature. `example_id` counts the rows of all splits.

    | feature | value for the first step |
    | --- | --- |
    | `Image` | uint8 [h, w, c] |
    | `Audio` | samples [n] or [n, c] |
    | `Text` | text |
    | `Video`, `Sequence(Image)` | uint8 [t, h, w, c] |
    | `Tensor`, `Scalar`, `Sequence` of a fixed length | array |

    Args:
        source: folder with dataset_info.json, such as `DATA/mnist/3.0.1`, or a builder whose data are prepared.
        inputs: feature -> steps, as `from_files` takes them.
        label: feature of the labels: `ClassLabel`, or a single float.
        train: split that steps are fitted to.
        rename: name of an input -> feature, for features that are named otherwise.
        cache: folder of the hashes of the files; by default `$MMKD_DATA`, then `~/.local/share/mmkd_jax`.

    Returns:
        Data set of each split.

    Raises:
        UserError: the folder is not prepared or has another format, a feature is missing or of another type, or a step
            cannot read a value.

    Example:
        >>> from mmkd_jax.data import dataset
        >>> from mmkd_jax.data.preprocess import ReadArray
        >>> folder = dataset.find("av_digits")
        >>> digits = from_tfds(folder, {"audio": ReadArray((32, 32), "uint8")}, label="label")
        >>> digits["test"].size, digits["test"].spec["audio"].shape
        (2000, (32, 32))
    """
    from google.protobuf import json_format
    from tensorflow_datasets.core import dataset_info, read_only_builder

    folder = pathlib.Path(source if isinstance(source, str | os.PathLike) else _data_dir(source))
    if not (folder / "dataset_info.json").is_file():
        raise UserError(f"{folder} has no dataset_info.json: it is not a prepared data set of TensorFlow Datasets")
    tree = foreign_files.read_json(folder / "features.json")
    features = tree.get("featuresDict", {}).get("features")
    if not isinstance(features, dict):
        raise UserError(f"{folder / 'features.json'} was written by TensorFlow Datasets before 4.3: prepare it again")
    columns = columns_of(inputs, rename, label)
    named = list(dict.fromkeys([*columns.values(), *([label] if label else [])]))
    if unknown := [k for k in named if k not in features]:
        raise UserError(f"{folder} has no feature {unknown[0]!r}; it has: {shown(choices(features), 200)}")
    wanted = {k: _translated(f"{folder}: feature {k!r}", features[k]) for k in named}
    try:
        proto = dataset_info.read_proto_from_builder_dir(folder)
        if proto.file_format != "array_record":
            raise UserError(f"{folder} has the format {proto.file_format}: prepare it with file_format='array_record'")
        json_format.ParseDict({**tree, "featuresDict": {"features": wanted}}, proto.features)
        builder = read_only_builder.ReadOnlyBuilder(builder_dir=folder, info_proto=proto)
        rows = {split: builder.as_data_source(split=split) for split in builder.info.splits}
        paths = {split: [pathlib.Path(x) for x in builder.info.splits[split].filepaths] for split in rows}
        labels = _labels(label, features[label], builder.info.features[label], f"{folder}: label") if label else None
    except UserError:
        raise
    except Exception as error:  # TensorFlow Datasets raises errors of any class
        raise UserError(f"{folder} cannot be read ({shown(str(error), 200)}): prepare it again") from None
    home = pathlib.Path(cache) if cache is not None else dataset.home()
    shards = {path: str(folder) for each in paths.values() for path in each}
    hashes = contents.hashes(shards, home / "files" / "shards.json", threads=2)
    audio = tuple(k for k in named if "audio" in features[k])
    sources = {
        split: streamed.Source(
            size=len(data),
            read=_Reader(f"{folder}, split {split!r}", data, columns, audio, labels),
            spec={} if labels is None else {"label": jax.ShapeDtypeStruct((), labels.dtype)},
            counts={},
            present={},
            content=files.digest([[hashes[path] for path in paths[split]], sorted(columns.values()), label]),
        )
        for split, data in rows.items()
    }
    chains = {k: _with_rate(steps, features[columns[k]]) for k, steps in inputs.items()}
    about = {"classes": list(labels.classes)} if labels and labels.classes else {}
    return streamed.datasets(builder.info.name, sources, chains, about, train)


def _data_dir(builder: Any) -> str:
    if not hasattr(builder, "data_dir"):
        raise UserError(f"source is a {type(builder).__name__}; expected a folder or a builder of TensorFlow Datasets")
    return builder.data_dir


@dataclasses.dataclass(frozen=True)
class _Labels:
    """Labels of a feature.

    Attributes:
        name: name of the feature.
        where: its folder and name, in messages.
        classes: names of the classes; empty for values.
    """

    name: str
    where: str
    classes: tuple[str, ...]

    @property
    def dtype(self) -> np.dtype:
        """The dtype of the column."""
        return np.dtype(np.int32 if self.classes else np.float32)

    def of(self, rows: np.ndarray, values: list[Any]) -> np.ndarray:
        """Return the column of some rows."""
        for row, x in zip(rows, values, strict=True):
            if self.classes and not 0 <= x < len(self.classes):
                raise UserError(f"{self.where} is {x} in row {row}, which is no label: leave out the split")
            if not np.isfinite(x):
                raise UserError(f"{self.where} is {x} in row {row}; expected a finite number")
        return np.array(values, self.dtype)


@dataclasses.dataclass(frozen=True)
class _Reader:
    """Reader of the rows of a split.

    Attributes:
        where: folder and split, in messages.
        rows: the rows, decoded by TensorFlow Datasets.
        columns: input -> feature.
        audio: features that are recordings.
        labels: the labels.
    """

    where: str
    rows: Any
    columns: Mapping[str, str]
    audio: tuple[str, ...]
    labels: _Labels | None

    def __call__(self, rows: np.ndarray) -> tuple[dict[str, list[Any]], dict[str, np.ndarray]]:
        try:
            found = self.rows.__getitems__([int(i) for i in rows])
        except Exception as error:  # of decoders and of files
            which = f"rows {rows.min()} … {rows.max()}" if len(rows) > 1 else f"row {rows[0]}"
            reason = shown(str(error), 160)
            raise UserError(f"{self.where}: {which} cannot be read ({reason}): prepare it again") from None
        values = {
            k: [self._value(name, row[name], i) for row, i in zip(found, rows, strict=True)]
            for k, name in self.columns.items()
        }
        if self.labels is None:
            return values, {}
        return values, {"label": self.labels.of(rows, [row[self.labels.name] for row in found])}

    def _value(self, name, x, row):
        if name in self.audio and x.dtype.kind in "iu" and x.dtype != np.int16:
            small = x.astype(np.int16)
            if (small != x).any():
                raise UserError(f"{self.where}: {name!r} of row {row} has samples of more than 16 bits: scale them")
            return small
        return np.stack(x) if isinstance(x, list) and x and isinstance(x[0], np.ndarray) else x


def _labels(label: str, tree: Mapping[str, Any], feature: Any, where: str) -> _Labels:
    where = f"{where} {label!r}"
    if "classLabel" in tree:
        names = feature.names or [str(i) for i in range(feature.num_classes or 0)]
        if not names:
            raise UserError(f"{where} has no number of classes: prepare it with num_classes or names")
        return _Labels(label, where, tuple(names))
    if feature.shape != () or np.dtype(feature.np_dtype).kind != "f":
        raise UserError(f"{where} is {feature!r}; expected ClassLabel, or a single float")
    return _Labels(label, where, ())


def _translated(where: str, tree: Any) -> Any:
    """Return the description of a feature without those that need TensorFlow, which are stored like others.

    Raises:
        UserError: a feature of another type.
    """
    known = "Image, Audio, Text, ClassLabel, Sequence, Video, Tensor, Scalar"
    name = str(tree.get("pythonClassName", "")) if isinstance(tree, dict) else ""
    kind = next((k for k, known_name in _READ.items() if k in tree and name in (known_name, _SCALAR)), None)
    if kind is None:
        kind = shown(name.rpartition(".")[2] or "unknown", 60)
        raise UserError(f"{where} is of type {kind}, which is not read; {known} are")
    content = tree[kind]
    if kind == "audio":
        if content.get("lazyDecode"):
            raise UserError(f"{where} is Audio with lazy_decode, which stores files of any format: prepare it without")
        tensor = {"dtype": content["dtype"], "encoding": content.get("encoding", "none").lower()}
        return {"pythonClassName": _TENSOR, "tensor": tensor | {"shape": content["shape"]}}
    if kind == "video":
        lengths = content.get("shape", {}).get("dimensions", ["-1"] * 4)
        image = {"dtype": content["dtype"], "shape": {"dimensions": lengths[1:]}}
        image |= {"encodingFormat": content["encodingFormat"]} if "encodingFormat" in content else {}
        frame = {"pythonClassName": _READ["image"], "image": image}
        return {"pythonClassName": _SEQUENCE, "sequence": {"feature": frame, "length": lengths[0]}}
    if kind == "sequence":
        inner = content.get("feature", {})
        if "image" not in inner and ("tensor" not in inner or content.get("length", "-1") == "-1"):
            raise UserError(f"{where} is a Sequence; expected one of images, or of numbers with a fixed length")
        _translated(where, inner)
    return tree


def _with_rate(steps: Any, feature: Mapping[str, Any]) -> Any:
    """Return steps whose `Resample` knows the sample rate of an Audio feature."""
    if isinstance(steps, list):
        return [_with_rate(x, feature) for x in steps]
    chain, rate = steps if isinstance(steps, tuple) else (steps,), feature.get("audio", {}).get("sampleRate")
    if rate and chain and isinstance(chain[0], Resample) and chain[0].source_rate is None:
        return (dataclasses.replace(chain[0], source_rate=int(rate)), *chain[1:])
    return steps
