"""Data sets from `datasets.Dataset` objects of Hugging Face."""

import functools
import hashlib
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from mmkd_jax import files
from mmkd_jax.data.dataset import Columns, Dataset
from mmkd_jax.data.raw import streamed
from mmkd_jax.data.raw.chains import Inputs, columns_of
from mmkd_jax.errors import UserError, choices, shown

_HASHED = 1_000
"""Rows that are hashed at a time."""
_NUMBERS = ("bool", "int", "uint", "float")


def from_huggingface(
    source: Any,
    inputs: Inputs,
    *,
    label: str | None = None,
    train: str = "train",
    rename: Mapping[str, str] | None = None,
    name: str = "huggingface",
) -> dict[str, Dataset]:
    """Create data sets from a `datasets.Dataset`, or from several in a `DatasetDict`; needs the extra `huggingface`.

    Rows are read and go through the steps when a loader asks for them. Files are decoded by the steps, not by
    `datasets`: `Image`, `Audio` (WAV) and `Video` are the contents or paths of files, `Value("string")` is text, and
    numbers and lists of them are arrays. Missing values are missing modalities, and labels that are missing or −1 are
    unlabeled training rows, as in `from_files`. `example_id` counts the rows of all splits.

    Args:
        source: a `Dataset`, which becomes the split `train`, or a mapping of splits such as a `DatasetDict`.
        inputs: column -> steps, as `from_files` takes them.
        label: column of the labels: `ClassLabel`, or floats.
        train: name of the training split.
        rename: name of an input -> column, for columns that are named otherwise.
        name: name of the data set.

    Returns:
        Data set of each split.

    Raises:
        UserError: `source` is something else or is streamed, a column is missing or of another type, a label is missing
            outside `train`, or a step cannot read a value.

    Example:
        >>> import datasets  # doctest: +SKIP
        >>> from mmkd_jax.data.preprocess import TrainTokenizer
        >>> cells = {"said": ["miaow miaow", None, "wow"], "species": [0, -1, 1]}
        >>> species = datasets.ClassLabel(names=["cat", "dog"])  # doctest: +SKIP
        >>> features = datasets.Features({"said": datasets.Value("string"), "species": species})  # doctest: +SKIP
        >>> rows = datasets.Dataset.from_dict(cells, features)  # doctest: +SKIP
        >>> pets = from_huggingface(rows, {"said": TrainTokenizer(9, 3)}, label="species")  # doctest: +SKIP
        >>> pets["train"].columns["said.ids"].tolist(), pets["train"].about["classes"]  # doctest: +SKIP
        ([[2, 2, 0], [0, 0, 0], [1, 0, 0]], ['cat', 'dog'])
        >>> {k: pets["train"].columns[k].tolist() for k in ("present.said", "labelled")}  # doctest: +SKIP
        {'present.said': [True, False, True], 'labelled': [True, False, True]}
    """
    splits = dict(source) if isinstance(source, Mapping) else {train: source}
    columns = columns_of(inputs, rename, label)
    for split, data in splits.items():
        if not all(hasattr(data, k) for k in ("features", "with_format", "num_rows")) or not hasattr(data, "__len__"):
            kind = type(data).__name__
            raise UserError(f"split {split!r} is a {kind}; expected a datasets.Dataset, which is loaded, not streamed")
        for column in [*columns.values(), *([label] if label else [])]:
            if column not in data.features:
                names = shown(choices(data.features), 200)
                raise UserError(f"split {split!r} has no column {column!r}; it has: {names}")
        for column in columns.values():
            _check(f"split {split!r}: column {column!r}", data.features[column])
    if not splits:
        raise UserError("source has no splits")
    classes = _classes(label, {split: data.features[label] for split, data in splits.items()}) if label else None
    sources = {k: _source(k, data, columns, label, classes, k == train) for k, data in splits.items()}
    unlabeled = any("labelled" in s.counts and s.counts["labelled"] < s.size for s in sources.values())
    if label and not unlabeled:
        sources = {k: _without_labelled(s) for k, s in sources.items()}
    about = {"classes": list(classes)} if classes else {}
    return streamed.datasets(name, sources, inputs, about, train)


def _source(split, data, columns, label, classes, training) -> streamed.Source:
    wanted = list(dict.fromkeys([*columns.values(), *([label] if label else [])]))
    arrow = data.select_columns(wanted).with_format("arrow")
    digest, present = hashlib.sha256(), {k: [] for k in columns}
    labels: list[Any] = []
    for table in arrow.iter(batch_size=_HASHED):
        for column in wanted:
            digest.update(repr(table.column(column).type).encode())
        for batch in table.combine_chunks().to_batches():
            digest.update(batch.serialize())
        for k, column in columns.items():
            present[k] += table.column(column).is_valid().to_pylist()
        labels += table.column(label).to_pylist() if label else []
    light: Columns = {}
    if label:
        light = _labels(f"split {split!r}: label {label!r}", labels, classes, training)
    return streamed.Source(
        size=len(data),
        read=functools.partial(_read, arrow, columns, light),
        spec={k: jax.ShapeDtypeStruct((), x.dtype) for k, x in light.items()},
        counts={k: int(x.sum()) for k, x in light.items() if x.dtype == np.bool_},
        present={k: np.array(x, bool) for k, x in present.items()},
        content=files.digest([digest.hexdigest(), list(classes or [])]),
    )


def _read(arrow: Any, columns: Mapping[str, str], light: Columns, rows: np.ndarray) -> tuple[dict[str, list], Columns]:
    table = arrow[[int(i) for i in rows]]
    values = {k: [_value(x) for x in table.column(column).to_pylist()] for k, column in columns.items()}
    return values, {k: x[rows] for k, x in light.items()}


def _value(x: Any) -> Any:
    """Return the content or path of a file; other values as they are."""
    if not isinstance(x, Mapping):
        return x
    return x["bytes"] if x.get("bytes") is not None else pathlib.Path(x["path"])


def _check(where: str, feature: Any) -> None:
    """Raise a UserError for a feature that no step reads."""
    kind, inner = type(feature).__name__, feature
    while kind in ("List", "Sequence", "LargeList") and not isinstance(inner, Mapping):
        inner = inner.feature
        kind = type(inner).__name__
    dtype = str(getattr(inner, "dtype", ""))
    number = kind == "Value" and dtype.startswith(_NUMBERS)
    text = feature is inner and kind == "Value" and dtype in ("string", "large_string")
    if not (number or text or (feature is inner and kind in ("Image", "Audio", "Video"))):
        what = shown(repr(feature), 100)
        raise UserError(f"{where} is {what}; expected Image, Audio, Video, a string, or numbers and lists of them")


def _classes(label: str, features: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the classes, which all splits must share; none for floats."""
    found = {}
    for split, feature in features.items():
        if type(feature).__name__ == "ClassLabel":
            found[split] = tuple(feature.names)
        elif type(feature).__name__ == "Value" and str(feature.dtype).startswith("float"):
            found[split] = ()
        else:
            what = shown(repr(feature), 100)
            raise UserError(
                f"split {split!r}: label {label!r} is {what}; expected ClassLabel, as of dataset.class_encode_column, "
                "or floats"
            )
    if len(set(found.values())) > 1:
        raise UserError(f"label {label!r} has other classes in each of the splits {choices(found)}: cast them alike")
    return next(iter(found.values()))


def _labels(where: str, labels: list[Any], classes: tuple[str, ...], training: bool) -> Columns:
    known = np.array([x is not None and not (classes and x == -1) for x in labels], bool)
    if not training and not known.all():
        raise UserError(f"{where} is missing in row {int(np.argmin(known))}: add it, or leave the row out")
    values = np.array([x if there else 0 for x, there in zip(labels, known, strict=True)], np.float64)
    wrong = (values < 0) | (values >= len(classes)) if classes else ~np.isfinite(values)
    if wrong.any():
        i = int(np.argmax(wrong))
        raise UserError(f"{where} is {labels[i]} in row {i}; expected {'a class' if classes else 'a finite number'}")
    if not known.any():
        raise UserError(f"{where} is missing in all rows")
    return {"label": np.array(values, np.int32 if classes else np.float32), "labelled": known}


def _without_labelled(source: streamed.Source) -> streamed.Source:
    """Return a source all of whose rows have labels, without the column that says so."""

    def read(rows):
        values, columns = source.read(rows)
        return values, {k: x for k, x in columns.items() if k != "labelled"}

    spec = {k: s for k, s in source.spec.items() if k != "labelled"}
    return source._replace(read=read, spec=spec, counts={k: n for k, n in source.counts.items() if k != "labelled"})
