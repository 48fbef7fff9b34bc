"""Rendering of paper tables: terminal, Markdown, JSON, figure."""

import io
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table as Grid

from mmkd_jax import files
from mmkd_jax.errors import UserError
from mmkd_jax.paper_tables.table import Table
from mmkd_jax.reporting.figures import figure_of, save_figure
from mmkd_jax.reporting.markdown import markdown_table

HELPS = "↑ helps, ↓ hurts: significant in a paired t-test at 99.9 % confidence; no arrow: no difference shown."
HEADS = (
    "row",
    "column",
    "published",
    "ours",
    "seeds",
    "difference",
    "tolerance",
    "percentile",
    "verdict",
    "checked",
    "verdict",
)


def write(
    folder: pathlib.Path, table: Table, cells: Sequence[Mapping[str, Any]], seconds: float, provenance: str
) -> None:
    """Write `table.{json,md,txt}` and, where the table has an axis, `figure.png`.

    Args:
        folder: output folder.
        table: the table.
        cells: cells returned by `paper_tables.table.cells`.
        seconds: wall time of all seeds.
        provenance: date, machine and JAX version of the run.
    """
    about = {"title": table.title, "source": table.source, "made": provenance, "seconds": round(seconds, 1)}
    files.write(folder / "table.json", as_json(cells, **about) + "\n")
    below = [
        f"Source: {table.source}.",
        f"Values in {table.unit}; wall time of all seeds {seconds:.0f} s ({provenance}).",
    ]
    if table.published or table.checked:
        heads, lines, left = HEADS, [_line(cell) for cell in cells], 2
        below += ["Percentile: percentage of our seeds below the published figure."]
    else:
        (heads, *lines), left = _matrix(table, cells), 1
        many = " and ".join(sorted({str(c["seeds"]) for c in cells}, key=int))
        below += [f"Mean ± standard error over {many} seeds. {HELPS}"]
    below += [table.about] if table.about else []
    below += [f"{row}: {note}" for row, note in table.notes.items()]
    text = markdown_table(heads, lines, "l" * left + "r" * (len(heads) - left))
    files.write(folder / "table.md", f"# {table.title}\n\n{text}\n" + "\n\n".join(below) + "\n")
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
    """Rows by columns, transposed so that the longer side is vertical."""
    by_name = {(c["row"], c["column"]): c for c in cells}
    gain = {better: name for name, (better, _) in table.gains.items()}

    def shown(row, column):
        cell = by_name.get((row, column))
        if cell is None:
            return ""
        outcome = by_name[row, gain[column]]["verdict"] if (row, gain.get(column)) in by_name else ""
        mark = {"helps": " ↑", "hurts": " ↓"}.get(outcome, "")
        return f"{cell['mean']:.1f}" + ("" if cell["stderr"] is None else f" ± {cell['stderr']:.1f}") + mark

    if len(table.rows) > len(table.columns):
        return [("", *table.columns), *((row, *(shown(row, c) for c in table.columns)) for row in table.rows)]
    return [("", *table.rows), *((column, *(shown(row, column) for row in table.rows)) for column in table.columns)]


def as_json(cells: Sequence[Mapping[str, Any]], **about: Any) -> str:
    """Return `{"cells": [...]}` as JSON, preceded by the fields in `about`."""
    return json.dumps({**about, "cells": list(cells)}, indent=1, ensure_ascii=False)


def page(folder: pathlib.Path) -> str:
    """Return a Markdown overview of all tables saved as `NAME.json`, linking `NAME.md` and `NAME.png`.

    Raises:
        UserError: the folder has no saved tables.
    """
    heads = ["table", "seeds", "reproduced", "not reproduced", "not decidable", "wall time, s", "date, machine"]
    lines: list[list[str]] = []
    for path in sorted(folder.glob("*.json")):
        try:
            saved = json.loads(files.read(path))
        except ValueError as error:
            raise UserError(f"{path} is damaged ({error}): copy table.json there again") from None
        outcomes = [c["verdict"] for c in saved["cells"] if c["published"] is not None]
        kinds = ("reproduced", "not reproduced", "not decidable")
        counts = [str(outcomes.count(kind)) if outcomes else "–" for kind in kinds]
        figure = f" ([figure]({path.stem}.png))" if path.with_suffix(".png").exists() else ""
        seeds = sorted({c["seeds"] for c in saved["cells"]})
        name = f"[{saved['title']}]({path.stem}.md){figure}"
        lines.append([name, "–".join(map(str, seeds)), *counts, f"{saved['seconds']:.0f}", saved["made"]])
    if not lines:
        raise UserError(f"{folder} contains no saved tables: copy table.json there as NAME.json")
    return markdown_table(heads, lines, "lrrrrrl").removesuffix("\n")


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
    gains = {c["column"] for c in cells} & set(table.gains)
    along = "row" if table.axis == "columns" else "column"
    columns = [*table.columns, *table.gains]
    series = list(table.rows) if along == "row" else columns
    ratios = [len(table.columns), len(gains)] if along == "row" and gains else None
    canvas, sides = figure_of(1, 2 if gains else 1, 10 if along == "row" else 7, 4.5, ratios)
    for side, axes in enumerate(sides):
        names = list(table.gains) if side else list(table.columns)
        for i, one in enumerate(series):
            drawn = [c for c in cells if c[along] == one and c["column"] in names]
            if not drawn:
                continue

            shift = 0.1 * (i - (len(series) - 1) / 2)

            def place(cell, names=names, beside=shift):
                return names.index(cell["column"]) + beside if along == "row" else table.axis[cell["row"]]

            x, error = [place(c) for c in drawn], [c["stderr"] or 0 for c in drawn]
            line = "" if along == "row" else "-"
            axes.errorbar(
                x,
                [c["mean"] for c in drawn],
                error,
                color=f"C{i}",
                marker="o",
                linestyle=line,
                capsize=3,
                label=one,
            )
            published = [c for c in drawn if c["published"] is not None]
            axes.plot(
                [place(c) for c in published], [c["published"] for c in published], "x", color=f"C{i}", markersize=9
            )
        if along == "row":
            axes.set_xticks(range(len(names)), names, rotation=30, ha="right")
        axes.plot([], [], "x", color="black", label="published")
        axes.set_xlabel(table.label)
        if side == 0 or along == "column":  # both sides have the same rows
            axes.legend(fontsize="small")
    sides[0].set_ylabel(f"{table.unit} (mean ± standard error)")
    canvas.suptitle(table.title, fontsize="medium")
    save_figure(canvas, path)
