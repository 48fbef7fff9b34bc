"""Chains of preprocessing steps as users write them: one step, a tuple of steps, or a list of chains."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, cast, runtime_checkable

from mmkd_jax.data.preprocess import Characters, Preprocessing, ReadArray, Step, Tokenize
from mmkd_jax.data.preprocess.row import RAW, Row
from mmkd_jax.data.preprocess.train_tokenizer import TrainTokenizer
from mmkd_jax.errors import UserError, choices, shown

RESERVED = ("label", "labelled", "example_id", "valid", "view_index")


@runtime_checkable
class Fitted(Protocol):
    """A step that is fitted to the training rows, such as `TrainTokenizer` or `Standardize`."""

    def fit(self, values: Sequence[Any], names: Sequence[str], before: Row, input: str) -> Step:
        """Return the step to use."""
        ...


Chain = tuple[Step | Fitted, ...]
Inputs = Mapping[str, Step | Fitted | Sequence[Any]]


def chains(inputs: Inputs) -> list[tuple[str, Chain]]:
    """Return (raw input, chain of steps) for each chain.

    Raises:
        UserError: no inputs, an input without steps, or a value that is not a step.
    """
    found = []
    for name, value in inputs.items():
        if name in RESERVED or name.startswith(("present.", "partner.")):
            raise UserError(f"input {name!r}: the name is reserved: pass rename={{{name!r}: …}}")
        each = value if isinstance(value, list) else [value]
        for chain in each:
            steps = chain if isinstance(chain, tuple) else (chain,)
            wrong = [x for x in steps if isinstance(x, type) or not isinstance(x, Step | Fitted)]
            if not steps or wrong:
                what = f"{shown(repr(wrong[0]), 80)} is not a step" if wrong else "it has no steps"
                raise UserError(f"input {name!r}: {what}; expected steps, such as (ReadImage(), Resize((32, 32)))")
            found.append((name, steps))
    if not found:
        raise UserError("no inputs; expected the steps of each, such as {'photo': (ReadImage(), Resize((32, 32)))}")
    return found


def columns_of(inputs: Inputs, rename: Mapping[str, str] | None, label: str | None) -> dict[str, str]:
    """Return input -> column that it reads.

    Raises:
        UserError: `rename` has a name that is no input, or an input reads the labels.

    Example:
        >>> columns_of({"photo": ReadArray()}, {"photo": "picture"}, "species")
        {'photo': 'picture'}
    """
    if unknown := set(rename or {}) - set(inputs):
        raise UserError(f"rename has {choices(unknown)}, but inputs are {choices(inputs)}")
    columns = {k: (rename or {}).get(k, k) for k in inputs}
    if label is not None and (same := [k for k, column in columns.items() if column == label]):
        raise UserError(f"input {same[0]!r} reads the column {label!r}, which has the labels: leave one of them out")
    return columns


def kind(name: str, steps: Sequence[Chain]) -> str:
    """Return what the cells of a raw input are: "text", "number" or "path".

    Raises:
        UserError: chains of one input read cells as different kinds.
    """
    firsts = {
        "text" if isinstance(s[0], Tokenize | Characters | TrainTokenizer) else
        "number" if isinstance(s[0], ReadArray) else "path"
        for s in steps
    }  # fmt: skip
    if len(firsts) > 1:
        raise UserError(f"input {name!r} is read both as {choices(firsts)}")
    return firsts.pop()


def fitted(name: str, chain: Chain, training: Callable[[], tuple[Sequence[Any], Sequence[int]]]) -> Preprocessing:
    """Return a chain whose steps are fitted to the training rows.

    Args:
        name: name of the raw input.
        chain: its steps.
        training: returns values and numbers of the training rows that have the input.
    """
    steps: tuple[Step, ...] = ()
    for step in chain:
        if isinstance(step, Fitted):
            values, rows = training()
            if not len(values):
                raise UserError(f"input {name!r} is in no training row, which {type(step).__name__} needs")
            names, row, current = [f"{name} {i}" for i in rows], RAW, values
            for before in steps:
                row, current = before.row_spec(cast(Any, row)), before(cast(Any, current), names)
            if isinstance(row, Mapping):
                raise UserError(f"input {name!r}: {type(step).__name__} follows columns: put it before the last step")
            step = step.fit(cast(Any, current), names, row, name)
        steps = (*steps, step)
    return Preprocessing(name, steps)
