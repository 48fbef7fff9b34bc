"""`mmkd data`: list, describe and prepare data sets."""

import dataclasses
import hashlib
import importlib
import pathlib
import tempfile
import warnings
from typing import Any

import numpy as np

from mmkd_jax import files
from mmkd_jax.data import dataset
from mmkd_jax.data.preprocess import saved
from mmkd_jax.errors import UserError, choices

_BUILDERS = pathlib.Path(__file__).parent / "datasets"


def list_() -> str:
    """List the data sets: name and first docstring line of each."""
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
    """Describe a prepared data set: splits, columns and sources."""
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
    """Build a data set from its sources and compare it with the recorded version.

    Args:
        name: data set name.
        out: output folder, in which `NAME/VERSION` is created; default `$MMKD_DATA` or `~/.local/share/mmkd_jax`.

    Returns:
        The output path and, for each split, whether its rows equal the recorded ones or by how much they differ.

    Raises:
        UserError: the data set is unknown, its sources cannot be fetched, or the target exists or cannot be written.
    """
    import tensorflow_datasets as tfds

    module = _module(name)
    out = out or dataset.home()
    with files.reported(out), tempfile.TemporaryDirectory() as scratch, tfds.core.registered.skip_registration():
        tfds.disable_progress_bar()
        builder = _builder(module)(data_dir=scratch, file_format="array_record")
        target = out / name / str(builder.version)
        if target.exists() and not (target / "record.json").exists():
            files.set_aside(target)  # it was killed before its record was written
        if target.exists():
            raise UserError(f"{target} already exists: remove it first, or choose another folder with --out")
        builder.download_and_prepare()
        built = pathlib.Path(builder.data_dir)
        columns = {
            s: dataset.decode(list(builder.as_data_source(split=s)), module.LENGTHS) for s in builder.info.splits
        }
        record = _record(module, str(builder.version), columns, built)
        compared = _compare(module, name, record, columns)
        for file in record["files"]:
            files.write(target / file, (built / file).read_bytes())
        if steps := getattr(module, "PREPROCESS", ()):
            saved.write(target, steps)
        files.write_json(target / "record.json", record)  # last: a data set without it is not prepared
    return f"{name} {record['version']} is in {target}\n{compared}"


def load_or_prepare(name: str, split: str) -> dataset.Dataset:
    """Load a split, running `mmkd data prepare` first if the data set is not prepared.

    A data set that a version without `data.preprocess` prepared gets its steps from its builder, if that has the same
    version; otherwise its raw inputs have no steps, which `Training(preprocess=…)` declares.

    Example:
        >>> load_or_prepare("av_digits", "validation").size
        500
    """
    try:
        dataset.find(name)
    except UserError:
        if "DIFFERS" in (message := prepare(name)):  # the rows are not those behind the published results
            warnings.warn(message, stacklevel=2)
    found = dataset.load(name, split)
    if not found.preprocess and name in _names():
        module = _module(name)
        if found.fingerprint["version"] == str(_builder(module).VERSION):
            return dataclasses.replace(found, preprocess=getattr(module, "PREPROCESS", ()))
    return found


def _compare(module, name, record, columns) -> str:
    lines = []
    try:
        folder = dataset.find(name, dataset.SHIPPED)
    except UserError:  # not shipped: only its hashes may be known
        for split, content in getattr(module, "CONTENT", {}).items():
            same = record["splits"][split]["content"] == content
            lines.append(f"  {split}: {'equal to' if same else 'DIFFERS from'} the recorded rows ({content[:16]}…)")
        return "\n".join(lines) or "no reference version is shipped to compare with"
    known = dataset.read_record(folder)
    for split, has in record["splits"].items():
        if known["version"] != record["version"] or split not in known["splits"]:
            lines.append(f"  {split}: no record of this version")
        elif known["splits"][split]["content"] == has["content"]:
            lines.append(f"  {split}: equal to the recorded rows ({has['content'][:16]}…)")
        else:
            shipped = dataset.load(name, split, dataset.SHIPPED).columns
            differing = []
            for k, x in columns[split].items():
                if k not in shipped or x.shape != shipped[k].shape:
                    differing.append(f"{k}: different shape")
                elif (x != shipped[k]).any():
                    rows = int((x != shipped[k]).reshape(len(x), -1).any(1).sum())
                    most = int(np.abs(x.astype(np.int64) - shipped[k].astype(np.int64)).max())
                    differing.append(f"{k}: {rows} of {len(x)} rows differ, by at most {most}")
            lines.append(f"  {split}: DIFFERS from the recorded rows ({'; '.join(differing)})")
    return "\n".join(lines)


def _record(module, version, columns, folder) -> dict[str, Any]:
    first = next(iter(columns.values()))
    return {
        "version": version,
        "rows": {k: [str(x.dtype), list(x.shape[1:])] for k, x in first.items()},
        "lengths": module.LENGTHS,
        "splits": {
            split: {
                "rows": len(arrays["example_id"]),
                "content": dataset.content_hash(arrays),
                "counts": {k: int(x.sum()) for k, x in arrays.items() if x.dtype == np.bool_ and x.ndim == 1},
            }
            for split, arrays in columns.items()
        },
        "files": {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir()) if p.is_file()},
        "about": module.ABOUT,
    }


def _names() -> list[str]:
    return sorted(p.stem for p in _BUILDERS.glob("*.py") if p.stem != "__init__")


def _module(name: str):
    if name not in _names():
        raise UserError(f"unknown data set {name!r}; available: {choices(_names())}")
    return importlib.import_module(f"mmkd_jax.data.datasets.{name}")


def _builder(module):
    import tensorflow_datasets as tfds

    kinds = [v for v in vars(module).values() if isinstance(v, type) and v.__module__ == module.__name__]
    return next(k for k in kinds if issubclass(k, tfds.core.GeneratorBasedBuilder))
