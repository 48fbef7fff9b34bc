"""Data sets of raw values that go through their steps whenever rows are read."""

import functools
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from mmkd_jax import files
from mmkd_jax.data.dataset import Columns, Dataset
from mmkd_jax.data.preprocess import Preprocessing
from mmkd_jax.data.raw import absence
from mmkd_jax.data.raw.chains import RESERVED, Inputs, chains, fitted
from mmkd_jax.data.raw.preparation import steps_as_json
from mmkd_jax.errors import UserError, choices

_WINDOW = 256
"""Rows that are read at a time for steps that are fitted."""


class Source(NamedTuple):
    """Raw values of a split.

    Attributes:
        size: number of rows.
        read: row indices -> the values of each input, None where it is missing, and further columns.
        spec: shape and dtype of the further columns.
        counts: name of a further bool column -> number of True values.
        present: input -> rows that have it; of inputs that rows may lack.
        content: hash of the raw values.
    """

    size: int
    read: Callable[[np.ndarray], tuple[Mapping[str, Sequence[Any]], Columns]]
    spec: Mapping[str, jax.ShapeDtypeStruct]
    counts: Mapping[str, int]
    present: Mapping[str, np.ndarray]
    content: str


def datasets(
    name: str, sources: Mapping[str, Source], inputs: Inputs, about: Mapping[str, Any], train: str
) -> dict[str, Dataset]:
    """Return the data set of each split; the first row of each is read at once, so that what cannot be read is refused.

    Args:
        name: name of the data set.
        sources: split -> raw values.
        inputs: input -> steps, as `from_files` takes them.
        about: metadata.
        train: name of the split that steps are fitted to.

    Raises:
        UserError: an input cannot be read by its steps, or two columns have one name.
    """

    def training(k):
        if train not in sources:
            raise UserError(f"no split {train!r} to fit steps to; there is {choices(sources)}: pass train=…")
        source = sources[train]
        windows = [np.arange(i, min(i + _WINDOW, source.size)) for i in range(0, source.size, _WINDOW)]
        values = [x for rows in windows for x in source.read(rows)[0][k]]
        there = [i for i, x in enumerate(values) if x is not None]
        return [values[i] for i in there], there

    each = [fitted(k, chain, functools.partial(training, k)) for k, chain in chains(inputs)]
    specs = [chain.row_spec() for chain in each]
    for chain, spec in zip(each, specs, strict=True):
        for k in spec:
            if k in RESERVED or sum(k in other for other in specs) > 1:
                raise UserError(f"input {chain.input!r} gives the column {k!r}, which another one is named: rename it")
    modalities = {x.input: sorted({k.partition(".")[0] for k in spec}) for x, spec in zip(each, specs, strict=True)}
    own = {split: source for split, source in sources.items() if source.present and source.size}
    if own:
        names = next(iter(own.values())).present
        there = {k: np.concatenate([source.present[k] for source in own.values()]) for k in names}
        absence.check(there, np.repeat([k == train or train not in own for k in own], [s.size for s in own.values()]))
        if said := absence.empty_rows(there):
            warnings.warn(f"{name}: {said}, counted over the splits {', '.join(own)}", stacklevel=3)
    lacking = {k for source in sources.values() for k, x in source.present.items() if not x.all()}
    found, first = {}, 0
    for split, source in sources.items():
        present = {
            f"present.{m}": source.present.get(k, np.ones(source.size, bool))
            for k in modalities
            if k in lacking
            for m in modalities[k]
        }
        ids = np.arange(first, first + source.size, dtype=np.int32)
        light = {"example_id": ids, **present}
        spec = {k: jax.ShapeDtypeStruct((), x.dtype) for k, x in light.items()} | dict(source.spec)
        spec |= {k: s for one in specs for k, s in one.items()}
        steps = files.digest([steps_as_json(x) for x in each])
        found[split] = Dataset(
            spec=spec,
            size=source.size,
            fingerprint={"name": name, "split": split, "content": source.content, "steps": steps},
            fetch=functools.partial(_fetch, f"{name}, split {split!r}", source, light, each, specs),
            counts={k: int(x.sum()) for k, x in present.items()} | dict(source.counts),
            about=about,
            preprocess=tuple(each),
        )
        found[split].fetch(np.arange(min(1, source.size)))
        first += source.size
    return found


def _fetch(
    where: str,
    source: Source,
    light: Columns,
    each: Sequence[Preprocessing],
    specs: Sequence[Mapping[str, jax.ShapeDtypeStruct]],
    rows: np.ndarray,
) -> Columns:
    values, columns = source.read(rows)
    columns = {k: x[rows] for k, x in light.items()} | dict(columns)
    for chain, spec in zip(each, specs, strict=True):
        raw = values[chain.input]
        there = [i for i, x in enumerate(raw) if x is not None]
        try:
            made = chain([raw[i] for i in there], [int(rows[i]) for i in there])
        except UserError as error:
            raise error.within(where) from None
        for k, s in spec.items():
            whole = made[k]
            if len(there) < len(rows):
                whole = np.zeros((len(rows), *s.shape), s.dtype)
                whole[there] = made[k]
            columns[k] = whole
    return columns
