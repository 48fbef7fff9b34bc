"""Preprocessing that a training declares, compared with the columns of its data."""

from collections.abc import Mapping, Sequence

from mmkd_jax.data.dataset import Dataset
from mmkd_jax.data.preprocess import Preprocessing, Step
from mmkd_jax.errors import UserError, choices, shown


def declared(dataset: Dataset, preprocess: Mapping[str, Sequence[Step]]) -> tuple[Preprocessing, ...]:
    """Return the steps from raw inputs to columns of a data set.

    Args:
        dataset: the data set, with the steps that it declares itself.
        preprocess: name of a raw input -> further steps, which replace those for the same columns.

    Returns:
        The steps of the columns that the data set has.

    Raises:
        UserError: steps do not fit together, or give no column of the data set, or one of another shape or dtype.
    """
    if not isinstance(preprocess, Mapping):
        raise UserError(f"preprocess is {shown(repr(preprocess))}; expected raw input -> steps")
    added = []
    for name, steps in preprocess.items():
        entry = Preprocessing(name, tuple(steps) if isinstance(steps, Sequence) else steps)
        if unknown := [k for k in entry.columns if k not in dataset.spec]:
            have = choices(dataset.spec)
            raise UserError(f"preprocess[{name!r}] gives {choices(unknown)}, but the columns of the data are {have}")
        added.append(entry)
    replaced = {k for entry in added for k in entry.columns}
    known = [x for x in getattr(dataset, "preprocess", ()) if not replaced & set(x.columns)]
    entries = (*(x for x in known if set(x.columns) <= set(dataset.spec)), *added)
    for entry in entries:
        for name, wanted in entry.row_spec().items():
            if (found := dataset.spec[name]) != wanted and (found.shape, found.dtype) != (wanted.shape, wanted.dtype):
                how = "preprocess" if entry in added else "Dataset.preprocess"
                raise UserError(
                    f"{how}[{entry.input!r}] gives {name!r} as {_described(wanted)}, but the data have "
                    f"{_described(found)}: declare the steps that made the data"
                )
    return entries


def _described(spec):
    return f"{spec.dtype}{list(spec.shape)}"
