"""The report of a run: a table, learning curves, accuracies by class, events; from the results alone."""

import io
import json
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from mmkd_jax import files
from mmkd_jax.errors import UserError

_DASHES, _HATCHES = ("-", "--", ":", "-."), ("", "//", "..", "xx")  # ten colours are not enough for every arm
Results = Mapping[str, Sequence[Mapping[str, Any]]]  # part -> a result for each seed


def summarise(results: Results, metric: str, baseline: str | None = None) -> list[dict[str, Any]]:
    """One row a part: mean and standard error over the seeds, and the paired difference to the baseline.

    Formula: mean ± s / √n, s the standard deviation over seeds (n − 1); difference: of the same seeds

    Args:
        results: part -> a result for each seed.
        metric: name of the headline metric.
        baseline: the part that others are compared with; None compares with none.

    Returns:
        Rows `{"arm", "seeds", "mean", "stderr", "difference", "difference_stderr", "smallest", "largest"}`; the last
        four are None without a baseline, a standard error is None with one seed.

    Raises:
        UserError: there is no such part.

    Example:
        >>> rows = summarise({"a": [{"x": 0.5}, {"x": 0.7}], "b": [{"x": 0.8}, {"x": 0.9}]}, "x", baseline="a")
        >>> round(rows[1]["mean"], 3), round(rows[1]["difference"], 3), round(rows[1]["smallest"], 3)
        (0.85, 0.25, 0.2)
    """
    if baseline is not None and baseline not in results:
        raise UserError(f"baseline {baseline!r} is no part; there are: {', '.join(results)}")
    rows = []
    for arm, own in results.items():
        values = np.array([r[metric] for r in own])
        row = {"arm": arm, "seeds": len(values), "mean": float(values.mean()), "stderr": _stderr(values)}
        row |= dict.fromkeys(("difference", "difference_stderr", "smallest", "largest"))
        if baseline is not None and arm != baseline:
            gap = values - np.array([r[metric] for r in results[baseline]])
            row |= {"difference": float(gap.mean()), "difference_stderr": _stderr(gap)}
            row |= {"smallest": float(gap.min()), "largest": float(gap.max())}
        rows.append(row)
    return rows


def write(
    folder: pathlib.Path,
    results: Results,
    metric: str,
    baseline: str | None,
    title: str,
    classes: Sequence[str] | None = None,
    share: bool = True,
) -> None:
    """Write `table.{txt,md,json}`, learning curves and accuracies by class of a run into its folder.

    Where a task has several metrics, `scores.md` has all of them. A metric that is a share is told as percent.
    """
    rows = summarise(results, metric, baseline)
    files.write(
        folder / "table.json", json.dumps({"metric": metric, "baseline": baseline, "rows": rows}, indent=1) + "\n"
    )
    cells = [_cells(row, share) for row in rows]
    named, gap = (f"{metric}, %", f"against {baseline}, points") if share else (metric, f"against {baseline}")
    heads = ["arm", named, "seeds"] + ([gap, "smallest … largest"] if baseline else [])
    cells = [c[: len(heads)] for c in cells]
    lines = [heads, ["---"] + ["---:"] * (len(heads) - 1), *cells]
    files.write(folder / "table.md", "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n")
    table = Table(title=title, title_justify="left")
    for i, head in enumerate(heads):
        table.add_column(head, justify="right" if i else "left")
    for line in cells:
        table.add_row(*line)
    text = io.StringIO()
    Console(file=text, width=100).print(table)
    files.write(folder / "table.txt", text.getvalue())
    if more := scores(results, classes):
        files.write(folder / "scores.md", more)
    curves(results, metric, folder / "figures" / "learning_curves.png")
    if all("per_class" in r and r["per_class"] for own in results.values() for r in own):
        by_class(results, folder / "figures" / "by_class.png", classes)


def scores(results: Results, classes: Sequence[str] | None = None) -> str:
    """All metrics of a task, and those by group, as a table: means and standard errors over the seeds.

    Args:
        results: part -> a result for each seed.
        classes: names of the groups.

    Returns:
        Markdown; nothing, where there is but one metric.
    """
    first = next(iter(results.values()))[0]
    names = [k for k, v in first.items() if isinstance(v, float) and k != "validation"]
    if len(names) < 2:
        return ""

    def flat(result):
        found = {n: result[n] for n in names}
        for by, values in result["per_class"].items():
            metric = by.partition(" by ")[0]
            named = classes if classes and len(classes) == len(values) else range(len(values))
            found |= {f"{metric}, {n}": x for n, x in zip(named, values, strict=True)}
        return found

    columns = list(flat(first))
    lines = [["arm", *columns], ["---"] + ["---:"] * len(columns)]
    for arm, own in results.items():
        values = np.array([list(flat(r).values()) for r in own])
        errors = [_stderr(v) for v in values.T]
        cells = zip(values.mean(0), errors, strict=True)
        lines.append([arm, *(f"{m:.3f}" + ("" if e is None else f" ± {e:.3f}") for m, e in cells)])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def curves(results: Results, metric: str, path: pathlib.Path) -> None:
    """Loss and validation metric over the steps: a line a seed, and their mean, for each part."""
    figure, (left, right) = _figure(1, 2, 11, 4)
    for i, (arm, own) in enumerate(results.items()):
        look: dict[str, Any] = {"color": f"C{i % 10}", "linestyle": _DASHES[i // 10 % len(_DASHES)]}
        for axes, name in ((left, "loss"), (right, metric)):
            lines = [([h["step"] for h in r["history"]], [h[name] for h in r["history"]]) for r in own]
            for x, y in lines:
                axes.plot(x, y, alpha=0.25, linewidth=0.8, **look)
            shortest = min(len(x) for x, _ in lines)
            mean = np.mean([y[:shortest] for _, y in lines], 0)
            marker = "o" if shortest == 1 else None  # one look at validation is a point, not a line
            axes.plot(lines[0][0][:shortest], mean, linewidth=2, marker=marker, label=arm, **look)
    positive = all(h["loss"] > 0 for own in results.values() for r in own for h in r["history"])
    left.set(xlabel="step", ylabel="training loss (each arm its own)", yscale="log" if positive else "linear")
    right.set(xlabel="step", ylabel=f"validation {metric}")
    right.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    _save(figure, path)


def by_class(results: Results, path: pathlib.Path, classes: Sequence[str] | None = None) -> None:
    """The metric in each class, the parts side by side; bars are means, whiskers standard errors over seeds."""
    name = next(iter(next(iter(results.values()))[0]["per_class"]))
    bars = sum(len(own[0]["per_class"][name]) for own in results.values())
    figure, (axes,) = _figure(1, 1, max(11, 0.15 * bars), 4)
    width = 0.8 / len(results)
    for i, (arm, own) in enumerate(results.items()):
        values = np.array([r["per_class"][name] for r in own])
        error = values.std(0, ddof=1) / math.sqrt(len(values)) if len(values) > 1 else None
        place = np.arange(values.shape[1]) + (i - (len(results) - 1) / 2) * width
        hatch = _HATCHES[i // 10 % len(_HATCHES)]
        axes.bar(place, values.mean(0), width, yerr=error, label=arm, hatch=hatch, error_kw={"linewidth": 0.8})
    labels = classes if classes and len(classes) == values.shape[1] else [str(i) for i in range(values.shape[1])]
    axes.set_xticks(range(len(labels)), labels)
    axes.set(xlabel="class", ylabel=f"test {name}")
    if axes.get_ylim()[0] >= 0:  # a correlation may be below
        axes.set(ylim=(0, 1))
    axes.margins(x=0.01)
    axes.legend(frameon=False, ncols=min(len(results), 6), loc="lower center", bbox_to_anchor=(0.5, 1.0))
    _save(figure, path)


def examples(rows: Sequence[Mapping[str, Any]], path: pathlib.Path) -> None:
    """A picture of some examples: a row of panels for each input, a caption below each example.

    Args:
        rows: for each example `{name of an input: picture [h, w] or [h, w, c] or spectrum [t, f], …, "caption": text}`;
            inputs named "audio" are drawn with time to the right and low frequencies below.
        path: of the PNG.
    """
    inputs = [k for k in rows[0] if k != "caption"]
    figure, panels = _figure(len(inputs), len(rows), 1.5 * len(rows), 1.7 * len(inputs) + 0.5)
    for j, row in enumerate(rows):
        for i, name in enumerate(inputs):
            axes = panels[i * len(rows) + j]
            picture = np.asarray(row[name]).squeeze()
            sound = name.startswith("audio")
            axes.imshow(
                picture.T if sound else picture, cmap="magma" if sound else "gray", origin="lower" if sound else "upper"
            )
            axes.set_xticks([])
            axes.set_yticks([])
            if j == 0:
                axes.set_ylabel(name)
            if i == len(inputs) - 1:
                axes.set_xlabel(row["caption"], fontsize=8)
    _save(figure, path)


def _stderr(values) -> float | None:
    return float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else None


def points(mean: float, stderr: float | None, sign: str = "", share: bool = True) -> str:
    """A share as percent, with its standard error where there is one; "+" as sign shows that of a difference.

    Example:
        >>> points(0.807, 0.002), points(0.01, None, "+"), points(0.722, 0.002, share=False)
        ('80.7 ± 0.2', '+1.0', '0.722 ± 0.002')
    """
    scale, form = (100, ".1f") if share else (1, ".3f")
    return f"{scale * mean:{sign}{form}}" + ("" if stderr is None else f" ± {scale * stderr:{form}}")


def _cells(row, share) -> list[str]:
    cells = [row["arm"], points(row["mean"], row["stderr"], share=share), str(row["seeds"])]
    if row["difference"] is None:
        return [*cells, "", ""]
    return [*cells, points(row["difference"], row["difference_stderr"], "+", share), span(row, share)]


def span(row: Mapping[str, Any], share: bool = True) -> str:
    """The smallest and the largest difference of a row of `summarise`, in points where it is one of shares."""
    return " … ".join(points(row[k], None, "+", share) for k in ("smallest", "largest"))


def _figure(rows, columns, width, height):
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure((width, height), layout="constrained")
    FigureCanvasAgg(figure)  # no pyplot: it keeps figures in a global
    panels = figure.subplots(rows, columns, squeeze=False)
    for axes in panels.flat:
        axes.spines[["top", "right"]].set_visible(False)
    return figure, list(panels.flat)


def _save(figure, path: pathlib.Path) -> None:
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=110)
    files.write(path, data.getvalue())
