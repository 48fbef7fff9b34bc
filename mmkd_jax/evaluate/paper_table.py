"""A paper table for people: terminal, Markdown, JSON, a figure."""

import io
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table as Grid

from mmkd_jax import files
from mmkd_jax.tables.table import Table

HELPS = "↑ helps, ↓ hurts: the paired difference is beyond a t-test at 99.9 %; no arrow: no difference shown."
HEADS = (
    "row",
    "column",
    "published",
    "ours",
    "seeds",
    "difference",
    "within",
    "percentile",
    "verdict",
    "checked",
    "verdict",
)


def write(folder: pathlib.Path, table: Table, cells: Sequence[Mapping[str, Any]], seconds: float) -> None:
    """Write `table.{json,md,txt}` and, where the table has an axis, `figure.png`."""
    files.write(folder / "table.json", as_json(cells) + "\n")
    below = [f"Source: {table.source}.", f"Values in {table.unit}; wall time of all seeds {seconds:.0f} s."]
    if table.published or table.checked:
        heads, lines, left = HEADS, [_line(cell) for cell in cells], 2
        below += ["Percentile: the share of our seeds that are below the published figure."]
    else:
        (heads, *lines), left = _matrix(table, cells), 1
        many = " and ".join(sorted({str(c["seeds"]) for c in cells}, key=int))
        below += [f"Mean ± standard error over {many} seeds. {HELPS}"]
    below += [table.about] if table.about else []
    below += [f"{row}: {note}" for row, note in table.notes.items()]
    rows = [heads, ["---"] * left + ["---:"] * (len(heads) - left), *lines]
    text = "\n".join("| " + " | ".join(line) + " |" for line in rows)
    files.write(folder / "table.md", f"# {table.title}\n\n{text}\n\n" + "\n\n".join(below) + "\n")
    grid = Grid(title=table.title, title_justify="left")
    for i, head in enumerate(heads):
        grid.add_column(head, justify="right" if i >= left else "left")
    for before, line in zip([("",), *lines], lines, strict=False):
        grid.add_row("" if line[0] == before[0] else line[0], *line[1:])
    printed = io.StringIO()
    Console(file=printed, width=150).print(grid)
    files.write(folder / "table.txt", printed.getvalue() + "\n".join(below) + "\n")
    if table.axis is not None:
        _figure(folder / "figure.png", table, cells)


def _matrix(table, cells) -> list[tuple[str, ...]]:
    """A line for each column of the table, and its rows side by side."""
    found = {(c["row"], c["column"]): c for c in cells}
    gain = {better: name for name, (better, _) in table.gains.items()}

    def shown(row, column):
        cell = found.get((row, column))
        if cell is None:
            return ""
        said = found[row, gain[column]]["verdict"] if (row, gain.get(column)) in found else ""
        mark = {"helps": " ↑", "hurts": " ↓"}.get(said, "")
        return f"{cell['mean']:.1f}" + ("" if cell["stderr"] is None else f" ± {cell['stderr']:.1f}") + mark

    return [("", *table.rows), *((column, *(shown(row, column) for row in table.rows)) for column in table.columns)]


def as_json(cells: Sequence[Mapping[str, Any]]) -> str:
    """`{"cells": [...]}`."""
    return json.dumps({"cells": list(cells)}, indent=1, ensure_ascii=False)


def _line(cell) -> tuple[str, ...]:
    def number(x, form="{:.2f}"):
        return "" if x is None else form.format(x)

    ours = number(cell["mean"]) + ("" if cell["stderr"] is None else f" ± {cell['stderr']:.2f}")
    return (
        cell["row"],
        cell["column"],
        number(cell["published"], "{:g}") + _runs(cell["published"], cell["runs"]),
        ours,
        str(cell["seeds"]),
        number(cell["difference"], "{:+.2f}"),
        number(cell["tolerance"]),
        number(cell["percentile"], "{:.0f}"),
        cell["verdict"] or "",
        number(cell["checked"], "{:g}") + _runs(cell["checked"], cell["checked_runs"]),
        cell["checked_verdict"] or "",
    )


def _runs(value, runs) -> str:
    if value is None:
        return ""
    return " (?)" if runs is None else f" ({runs})"


def _figure(path, table, cells):
    from matplotlib.figure import Figure as Canvas

    columns = [*table.columns, *table.gains]
    canvas = Canvas(figsize=(7, 4.5), layout="constrained")
    sides = canvas.subplots(1, 2 if table.gains else 1, squeeze=False)[0]
    for i, column in enumerate(columns):
        axes, colour = sides[int(column in table.gains)], f"C{i}"
        own = [c for c in cells if c["column"] == column]
        x = [table.axis[c["row"]] for c in own]
        error = [c["stderr"] or 0 for c in own]
        axes.errorbar(x, [c["mean"] for c in own], error, color=colour, marker="o", capsize=3, label=column)
        told = [c for c in own if c["published"] is not None]
        given = [c["published"] for c in told]
        axes.plot([table.axis[c["row"]] for c in told], given, "x", color=colour, markersize=9)
    for axes in sides:
        axes.plot([], [], "x", color="black", label="published")
        axes.set_xlabel(table.label)
        axes.legend(fontsize="small")
    sides[0].set_ylabel(f"{table.unit} (mean ± standard error)")
    canvas.suptitle(table.title, fontsize="medium")
    canvas.savefig(path, dpi=120)
