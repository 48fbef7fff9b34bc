"""`mmkd data`: list, describe and prepare data sets."""

import hashlib
import importlib
import json
import pathlib
import tempfile
import warnings
from typing import Any

import numpy as np

from mmkd_jax import files
from mmkd_jax.data import dataset
from mmkd_jax.errors import UserError, choices

_BUILDERS = pathlib.Path(__file__).parent / "datasets"


def list_() -> str:
    """Each data set: its name and the first line of its file's docstring."""
    lines = []
    for name in _names():
        doc = importlib.import_module(f"mmkd_jax.data.datasets.{name}").__doc__ or ""
        try:
            state = f"prepared, {dataset.find(name).name}"
        except UserError:
            state = "not prepared"
        lines.append(f"{name}  ({state})\n    {doc.splitlines()[0]}")
    return "\n".join(lines)


def info(name: str) -> str:
    """What a prepared data set holds, and where it comes from."""
    _module(name)
    folder = dataset.find(name)
    record = dataset.read_record(folder)
    lines = [f"{name} {record['version']}, in {folder}", ""]
    for split, has in record["splits"].items():
        true = ", ".join(f"{v:,} {k}" for k, v in has["counts"].items() if v)
        lines.append(f"  {split:<12}{has['rows']:>7,} rows  content {has['content'][:16]}…  {true}")
    lines += ["", *(f"  {k:<12}{dtype}{shape}" for k, (dtype, shape) in record["rows"].items())]
    lines += ["", *(f"  {k:<12}{', '.join(v) if isinstance(v, list) else v}" for k, v in record["about"].items())]
    return "\n".join(lines)


def prepare(name: str, out: pathlib.Path | None = None) -> str:
    """Make a data set from its sources, and compare it with what is recorded of it.

    Args:
        name: of the data set.
        out: holds `NAME/VERSION` afterwards; default `$MMKD_DATA` or `~/.local/share/mmkd_jax`.

    Returns:
        Where it lies, and for each split whether its rows equal the recorded ones, or by how much they differ.

    Raises:
        UserError: no such data set, its sources cannot be had, or the place is taken or cannot be written.
    """
    import tensorflow_datasets as tfds

    module = _module(name)
    out = out or dataset.home()
    with files.reported(out), tempfile.TemporaryDirectory() as scratch, tfds.core.registered.skip_registration():
        tfds.disable_progress_bar()
        builder = _builder(module)(data_dir=scratch, file_format="array_record")
        target = out / name / str(builder.version)
        if target.exists():
            raise UserError(f"{target} exists already: remove it first, or choose another folder with --out")
        builder.download_and_prepare()
        made = pathlib.Path(builder.data_dir)
        columns = {
            s: dataset.decode(list(builder.as_data_source(split=s)), module.LENGTHS) for s in builder.info.splits
        }
        record = _record(module, str(builder.version), columns, made)
        compared = _compare(module, name, record, columns)
        for file in [*record["files"], "record.json"]:
            data = json.dumps(record, indent=1) + "\n" if file == "record.json" else (made / file).read_bytes()
            files.write(target / file, data)
    return f"{name} {record['version']} is in {target}\n{compared}"


def obtain(name: str, split: str) -> dataset.Dataset:
    """`data.load`, after `mmkd data prepare` where the data set is not there yet.

    Example:
        >>> obtain("av_digits", "validation").size
        500
    """
    try:
        dataset.find(name)
    except UserError:
        if "DIFFERS" in (said := prepare(name)):  # other rows than those of published figures
            warnings.warn(said, stacklevel=2)
    return dataset.load(name, split)


def _compare(module, name, record, columns) -> str:
    lines = []
    try:
        folder = dataset.find(name, dataset.SHIPPED)
    except UserError:  # not shipped: its hashes alone may be known
        for split, content in getattr(module, "CONTENT", {}).items():
            same = record["splits"][split]["content"] == content
            lines.append(f"  {split}: {'equal to' if same else 'DIFFERS from'} the recorded rows ({content[:16]}…)")
        return "\n".join(lines) or "there is no shipped form to compare it with"
    known = dataset.read_record(folder)
    for split, has in record["splits"].items():
        if known["version"] != record["version"] or split not in known["splits"]:
            lines.append(f"  {split}: nothing recorded of this version")
        elif known["splits"][split]["content"] == has["content"]:
            lines.append(f"  {split}: equal to the recorded rows ({has['content'][:16]}…)")
        else:
            shipped = dataset.load(name, split, dataset.SHIPPED).columns
            unlike = []
            for k, x in columns[split].items():
                if k not in shipped or x.shape != shipped[k].shape:
                    unlike.append(f"{k}: another shape")
                elif (x != shipped[k]).any():
                    rows = int((x != shipped[k]).reshape(len(x), -1).any(1).sum())
                    most = int(np.abs(x.astype(np.int64) - shipped[k].astype(np.int64)).max())
                    unlike.append(f"{k}: {rows} of {len(x)} rows differ, by at most {most}")
            lines.append(f"  {split}: DIFFERS from the recorded rows ({'; '.join(unlike)})")
    return "\n".join(lines)


def _record(module, version, columns, made) -> dict[str, Any]:
    first = next(iter(columns.values()))
    return {
        "version": version,
        "rows": {k: [str(x.dtype), list(x.shape[1:])] for k, x in first.items()},
        "lengths": module.LENGTHS,
        "splits": {
            split: {
                "rows": len(own["example_id"]),
                "content": dataset.content_hash(own),
                "counts": {k: int(x.sum()) for k, x in own.items() if x.dtype == np.bool_ and x.ndim == 1},
            }
            for split, own in columns.items()
        },
        "files": {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(made.iterdir()) if p.is_file()},
        "about": module.ABOUT,
    }


def _names() -> list[str]:
    return sorted(p.stem for p in _BUILDERS.glob("*.py") if p.stem != "__init__")


def _module(name: str):
    if name not in _names():
        raise UserError(f"no data set {name!r}; there are: {choices(_names())}")
    return importlib.import_module(f"mmkd_jax.data.datasets.{name}")


def _builder(module):
    import tensorflow_datasets as tfds

    kinds = [v for v in vars(module).values() if isinstance(v, type) and v.__module__ == module.__name__]
    return next(k for k in kinds if issubclass(k, tfds.core.GeneratorBasedBuilder))
