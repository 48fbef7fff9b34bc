"""What a paper table is, and when a figure counts as reproduced."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from mmkd_jax.errors import UserError, choices
from mmkd_jax.evaluate import verdicts

LEVEL = 0.999
"""Of confidence that a gain without a published figure is one: a table has many."""


class Figure(NamedTuple):
    """A figure that others give.

    Attributes:
        value: in the table's unit.
        runs: how many runs it is the mean of; None where nobody says, which counts as one.
        error: what rounding, or reading it off a plot, may have cost.
    """

    value: float
    runs: int | None = None
    error: float = 0.05


Keep = Callable[[str, Callable[[], Mapping[str, Any]]], dict[str, np.ndarray]]


@dataclasses.dataclass(frozen=True)
class Table:
    """A table of a paper, as a pure function of seeds.

    Attributes:
        title: one line.
        source: paper, year, link.
        rows: name -> arguments of `member` in this row; all rows have the same names.
        columns: what `member` measures, in the order of the table.
        member: `(shared, seed, **arguments) -> {column: value}`, pure: all trainings and scores of one seed; a row may
            lack columns.
        seeds: how many; a mapping gives each row its own number, which nobody can raise from outside.
        quick: how many in a quick run, which still shows the effect; or the smaller table that such a run makes.
        static: names of arguments that shapes or programs hang on; one program serves all rows that share theirs.
        shared: `(keep) -> arrays` that all members read; called once. `keep(name, make)` gives `make()`, a dict of
            arrays, and keeps it on disk: a teacher is trained once.
        gains: name -> (column, column it is compared with): differences within each seed, columns of their own.
        published: row -> column -> what is printed in the paper or stored by its authors.
        checked: row -> column -> what others got who ran it again.
        notes: row -> what is known of cells that are not reproduced.
        unit: of all values.
        axis: row -> its place on the x axis of the figure; "columns" has the columns there, by name, and a line for
            each row; None makes no figure.
        label: of that axis.
        together: seeds between two savings.
        width: members that an accelerator works on at the same time.
        narrow: the same of a core, which likes few: `python -m benchmarks.population` measures it.
        about: what a reader must know, below the table.
    """

    title: str
    source: str
    rows: Mapping[str, Mapping[str, Any]]
    columns: Sequence[str]
    member: Callable[..., Mapping[str, Any]]
    seeds: int | Mapping[str, int]
    quick: "int | Table"
    static: tuple[str, ...] = ()
    shared: Callable[[Keep], Any] = lambda keep: ()
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
                raise UserError(f"seeds: none for row {choices(missing)}")
        for name, given in known.items():
            if wrong := set(given) - set(self.rows):
                raise UserError(f"{name}: no row {choices(wrong)}; there are: {choices(self.rows)}")
        for name, figures in (("published", self.published), ("checked", self.checked)):
            every = {c for row in figures.values() for c in row}
            if wrong := every - set(self.columns) - set(self.gains):
                raise UserError(f"{name}: no column {choices(wrong)}; there are: {choices(self.columns)}")
        if wrong := {c for pair in self.gains.values() for c in pair} - set(self.columns):
            raise UserError(f"gains: no column {choices(wrong)}; there are: {choices(self.columns)}")


def figures(
    rows: Iterable[str],
    columns: Iterable[str],
    values: Iterable[Iterable[float | int | None]],
    runs: int | None = None,
    error: float = 0.05,
) -> dict[str, dict[str, Figure]]:
    """Figures that others give, row by row; None where they give none.

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
    """Whether a figure is reproduced.

    Formula: |mean − figure| ≤ 2 · SD · √(1 / n + 1 / n_figure) + error, SD over our seeds

    Args:
        values: of our seeds.
        figure: the other one; an unknown number of runs counts as one.
        effect: what the table is about, where the cell is a gain: a tolerance above half of it decides nothing.

    Returns:
        "reproduced", "not reproduced", "not decidable", or "one run"; and the tolerance.

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
    """Every cell with ours beside the published figure; none is left out.

    Args:
        table: whose.
        scores: row -> column -> value of each seed.
    """
    found = []
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
                    said, tolerance = verdict(values, figure, effect)
                    cell[f"{key}verdict"] = said
                    cell[f"{key}tolerance"] = None if math.isnan(tolerance) else tolerance
            if column in gains and cell["published"] is None:
                cell["verdict"] = verdicts.verdict(cell["mean"], cell["stderr"], len(values), LEVEL)
            found.append(cell)
    return found


def _figure(table, figures, column):
    """A gain that nobody prints is the difference of the printed figures."""
    if column in figures or column not in table.gains:
        return figures.get(column)
    one, other = (figures.get(c) for c in table.gains[column])
    if one is None or other is None:
        return None
    runs = None if one.runs is None or other.runs is None else min(one.runs, other.runs)
    return Figure(round(one.value - other.value, 4), runs, one.error + other.error)
