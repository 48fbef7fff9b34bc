"""Paper tables: definition, published figures, and the criterion for a reproduced figure."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from mmkd_jax.errors import UserError, choices
from mmkd_jax.reporting import verdicts

LEVEL = 0.999
"""Confidence level of gains without a published figure; high, because a table has many."""


class Figure(NamedTuple):
    """A figure reported by others.

    Attributes:
        value: value, in the table's unit.
        runs: number of runs that it averages; None if not reported, which counts as one.
        error: possible error from rounding or from reading a plot.
    """

    value: float
    runs: int | None = None
    error: float = 0.05


Cached = Callable[[str, Callable[[], Mapping[str, Any]]], dict[str, np.ndarray]]


@dataclasses.dataclass(frozen=True)
class Table:
    """A table of a paper, as a pure function of seeds.

    Attributes:
        title: title, one line.
        source: paper, year, link.
        rows: row name -> arguments of `member`; all rows have the same argument names.
        columns: names of the values that `member` returns, in table order.
        member: pure function `(shared, seed, **arguments) -> {column: value}` that trains and evaluates all models of
            one seed; a row may lack columns.
        whole: `(arrays, **arguments) -> {column: value}`, on the host for each seed, if metrics need all rows at once,
            such as AUROC or `Task.whole`: `arrays` are what `member` returns, in place of the columns.
        seeds: number of seeds; a mapping sets it per row, as an upper limit for the command line.
        quick: number of seeds of a quick run, enough to show the effect; or a smaller table for quick runs.
        static: names of arguments that determine shapes or programs; rows with equal static arguments share a program.
        shared: `(cached) -> arrays`, the inputs of all members; called once. `cached(name, make)` returns `make()`, a
            dict of arrays, cached on disk, so that a teacher is trained only once.
        gains: name -> (column, reference column): additional columns with the differences within each seed.
        published: row -> column -> figure printed in the paper or stored by its authors.
        checked: row -> column -> figure from an independent reproduction.
        notes: row -> note on cells that are not reproduced.
        unit: unit of all values.
        axis: row -> position on the x axis of the figure; "columns" puts the column names on the x axis, with one
            series per row; None disables the figure.
        label: label of the x axis.
        together: number of seeds to train between saves.
        width: number of members to vectorize over on an accelerator.
        narrow: number of members to vectorize over on a CPU core, where few are faster; measured by
            `python -m benchmarks.population`.
        about: notes for the reader, printed below the table.
    """

    title: str
    source: str
    rows: Mapping[str, Mapping[str, Any]]
    columns: Sequence[str]
    member: Callable[..., Mapping[str, Any]]
    seeds: int | Mapping[str, int]
    quick: "int | Table"
    whole: Callable[..., Mapping[str, Any]] | None = None
    static: tuple[str, ...] = ()
    shared: Callable[[Cached], Any] = lambda cached: ()
    gains: Mapping[str, tuple[str, str]] = dataclasses.field(default_factory=dict)
    published: Mapping[str, Mapping[str, Figure]] = dataclasses.field(default_factory=dict)
    checked: Mapping[str, Mapping[str, Figure]] = dataclasses.field(default_factory=dict)
    notes: Mapping[str, str] = dataclasses.field(default_factory=dict)
    unit: str = "%"
    axis: Mapping[str, float] | Literal["columns"] | None = None
    label: str = ""
    together: int = 20
    width: int = 64
    narrow: int = 1
    about: str = ""

    def __post_init__(self):
        known: dict[str, Mapping[str, Any]] = {
            "published": self.published,
            "checked": self.checked,
            "notes": self.notes,
        }
        if isinstance(self.axis, Mapping):
            known["axis"] = self.axis
        if isinstance(self.seeds, Mapping):
            known["seeds"] = self.seeds
            if missing := set(self.rows) - set(self.seeds):
                raise UserError(f"seeds: no entry for row {choices(missing)}")
        for name, given in known.items():
            if wrong := set(given) - set(self.rows):
                raise UserError(f"{name}: no row {choices(wrong)}; available: {choices(self.rows)}")
        for name, figures in (("published", self.published), ("checked", self.checked)):
            every = {c for row in figures.values() for c in row}
            if wrong := every - set(self.columns) - set(self.gains):
                raise UserError(f"{name}: no column {choices(wrong)}; available: {choices(self.columns)}")
        if wrong := {c for pair in self.gains.values() for c in pair} - set(self.columns):
            raise UserError(f"gains: no column {choices(wrong)}; available: {choices(self.columns)}")


def figures(
    rows: Iterable[str],
    columns: Iterable[str],
    values: Iterable[Iterable[float | int | None]],
    runs: int | None = None,
    error: float = 0.05,
) -> dict[str, dict[str, Figure]]:
    """Create figures from rows of values; None for cells without a figure.

    Example:
        >>> figures(["a"], ["x", "y"], [(1.5, None)], error=0.1)
        {'a': {'x': Figure(value=1.5, runs=None, error=0.1)}}
    """
    columns = list(columns)
    return {
        row: {c: Figure(float(v), runs, error) for c, v in zip(columns, line, strict=True) if v is not None}
        for row, line in zip(rows, values, strict=True)
    }


def verdict(values: np.ndarray, figure: Figure, effect: float | None = None) -> tuple[str, float]:
    """Test whether a figure is reproduced.

    Formula: |mean − figure| ≤ 2 · SD · √(1 / n + 1 / n_figure) + error, with SD over our seeds

    Args:
        values: our values, one per seed.
        figure: figure to compare with; an unknown number of runs counts as one.
        effect: reported effect if the cell is a gain; with a tolerance above half of it, the result is not decidable.

    Returns:
        "reproduced", "not reproduced", "not decidable" or "one run", and the tolerance.

    Example:
        >>> verdict(np.array([70.0, 72.0, 74.0]), Figure(71.0, runs=10))
        ('reproduced', 2.68)
    """
    if len(values) < 2:
        return "one run", math.nan
    spread = float(np.std(values, ddof=1)) * math.sqrt(1 / len(values) + 1 / (figure.runs or 1))
    tolerance = 2 * spread + figure.error
    if effect is not None and tolerance > abs(effect) / 2:
        return "not decidable", round(tolerance, 2)
    near = abs(float(np.mean(values)) - figure.value) <= tolerance
    return "reproduced" if near else "not reproduced", round(tolerance, 2)


def cells(table: Table, scores: Mapping[str, Mapping[str, Sequence[float]]]) -> list[dict[str, Any]]:
    """Return all cells of a table: our result, the published and the independently checked figure, and verdicts.

    Args:
        table: the table.
        scores: row -> column -> one value per seed.
    """
    results = []
    for row in table.rows:
        columns = {c: np.asarray(scores[row][c], np.float64) for c in table.columns if c in scores[row]}
        gains = {name: pair for name, pair in table.gains.items() if set(pair) <= set(columns)}
        columns |= {name: columns[a] - columns[b] for name, (a, b) in gains.items()}
        for column, values in columns.items():
            cell: dict[str, Any] = {
                "row": row,
                "column": column,
                "published": None,
                "mean": float(values.mean()),
                "stderr": float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else None,
                "sd": float(values.std(ddof=1)) if len(values) > 1 else None,
                "seeds": len(values),
            }
            for name, figures in (("published", table.published), ("checked", table.checked)):
                figure = _figure(table, figures.get(row, {}), column)
                key = "" if name == "published" else "checked_"
                cell[name] = None if figure is None else figure.value
                cell[f"{key}runs"] = None if figure is None else figure.runs
                cell[f"{key}difference"] = None if figure is None else cell["mean"] - figure.value
                cell[f"{key}tolerance"] = cell[f"{key}verdict"] = None
                cell[f"{key}percentile"] = None
                if figure is not None:
                    cell[f"{key}percentile"] = float(100 * np.mean(values < figure.value))
                    effect = figure.value if column in table.gains else None
                    outcome, tolerance = verdict(values, figure, effect)
                    cell[f"{key}verdict"] = outcome
                    cell[f"{key}tolerance"] = None if math.isnan(tolerance) else tolerance
            if column in gains and cell["published"] is None:
                cell["verdict"] = verdicts.verdict(cell["mean"], cell["stderr"], len(values), LEVEL)
            results.append(cell)
    return results


def _figure(table, figures, column):
    """Return a figure; an unreported gain is the difference of the reported columns."""
    if column in figures or column not in table.gains:
        return figures.get(column)
    one, other = (figures.get(c) for c in table.gains[column])
    if one is None or other is None:
        return None
    runs = None if one.runs is None or other.runs is None else min(one.runs, other.runs)
    return Figure(round(one.value - other.value, 4), runs, one.error + other.error)
