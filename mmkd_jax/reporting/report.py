"""Report of a run from its results: summary table, learning curves, per-class metrics, examples."""

import io
import json
import math
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from mmkd_jax import files
from mmkd_jax.errors import UserError, choices
from mmkd_jax.reporting.figures import figure_of, save_figure
from mmkd_jax.reporting.markdown import markdown_table

_DASHES, _HATCHES = ("-", "--", ":", "-."), ("", "//", "..", "xx")  # to distinguish more than ten trainings
Results = Mapping[str, Sequence[Mapping[str, Any]]]  # training -> one result per seed


def summarize(results: Results, metric: str, baseline: str | Mapping[str, str] | None = None) -> list[dict[str, Any]]:
    """Summarize each training: mean and standard error over seeds, and the paired difference to the baseline.

    Formula: mean ± s / √n, with s the standard deviation over seeds (n − 1); differences are paired by seed

    Args:
        results: training -> one result per seed; a single one, of a model that no seed changes, is compared with all.
        metric: name of the headline metric.
        baseline: training to compare with, or training -> its baseline; None for no comparison.

    Returns:
        Rows `{"training", "seeds", "mean", "stderr", "baseline", "difference", "difference_stderr", "smallest",
        "largest"}`; the last five are None without a baseline, and standard errors are None with one seed.

    Raises:
        UserError: the baseline is not a training.

    Example:
        >>> rows = summarize({"a": [{"x": 0.5}, {"x": 0.7}], "b": [{"x": 0.8}, {"x": 0.9}]}, "x", baseline="a")
        >>> round(rows[1]["mean"], 3), round(rows[1]["difference"], 3), round(rows[1]["smallest"], 3)
        (0.85, 0.25, 0.2)
    """
    pairs = baselines(baseline, results)
    if wrong := {*([baseline] if isinstance(baseline, str) else baseline or {}), *pairs.values()} - set(results):
        raise UserError(f"baseline {choices(wrong)!r} is not a training; available: {', '.join(results)}")
    rows = []
    for training, seeds in results.items():
        values = np.array([r[metric] for r in seeds])
        row = {"training": training, "seeds": len(values), "mean": float(values.mean()), "stderr": _stderr(values)}
        row |= dict.fromkeys(("baseline", "difference", "difference_stderr", "smallest", "largest"))
        if training in pairs:
            gap = values - np.array([r[metric] for r in results[pairs[training]]])
            row |= {"baseline": pairs[training], "difference": float(gap.mean()), "difference_stderr": _stderr(gap)}
            row |= {"smallest": float(gap.min()), "largest": float(gap.max())}
        rows.append(row)
    return rows


def baselines(baseline: str | Mapping[str, str] | None, names: Iterable[str]) -> dict[str, str]:
    """Return training -> its baseline, where both are among some trainings.

    Example:
        >>> baselines("labels", ["labels", "kd"]), baselines({"kd": "labels", "big_kd": "big"}, ["labels", "kd"])
        ({'kd': 'labels'}, {'kd': 'labels'})
    """
    names = list(names)
    pairs = baseline if isinstance(baseline, Mapping) else {n: baseline for n in names if baseline not in (None, n)}
    return {n: b for n, b in pairs.items() if n in names and b in names}


def write(
    folder: pathlib.Path,
    results: Results,
    metric: str,
    baseline: str | Mapping[str, str] | None,
    title: str,
    classes: Sequence[str] | None = None,
    share: bool = True,
    log: Callable[[str], None] = print,
    notes: Sequence[str] = (),
    columns: tuple[Sequence[str], Mapping[str, Sequence[str]]] = ((), {}),
    groups: Mapping[str, Sequence[str]] = {},
) -> dict[str, Any]:
    """Write `table.{txt,md,json}`, learning curves and per-class metrics to the run folder.

    If the task has several metrics, `scores.md` lists all of them, also by class. A metric with `share=True` is shown
    in percent. A figure that cannot be drawn is skipped, and `log` is called with the reason. Notes are printed below
    the table. `columns` are further columns: their heads, and training -> its cells. `groups` names the groups of
    metrics "METRIC by GROUP" that are no classes. Returns the content of `table.json`.
    """
    rows = summarize(results, metric, baseline)
    whole = {"metric": metric, "baseline": baseline, "rows": rows, "notes": list(notes)}
    files.write(folder / "table.json", json.dumps(whole, indent=1) + "\n")
    named = {row["baseline"] for row in rows} - {None}
    cells = [_cells(row, share, many=len(named) > 1) for row in rows]
    gap = f"against {named.pop() if len(named) == 1 else 'its baseline'}" + ", points" * share
    heads = ["training", f"{metric}, %" if share else metric, "seeds"]
    heads += [gap, "smallest … largest"] if any(row["baseline"] for row in rows) else []
    cells = [c[: len(heads)] for c in cells]
    more, of = columns
    cells = [[*c, *of.get(row["training"], ["–"] * len(more))] for c, row in zip(cells, rows, strict=True)]
    heads += more
    below = "".join(f"\n- {line}" for line in notes)
    files.write(
        folder / "table.md", markdown_table(heads, cells, "l" + "r" * (len(heads) - 1)) + f"{below}\n" * bool(below)
    )
    table = Table(title=title, title_justify="left")
    for i, head in enumerate(heads):
        table.add_column(head, justify="right" if i else "left")
    for line in cells:
        table.add_row(*line)
    text = io.StringIO()
    Console(file=text, width=100 + 16 * len(more)).print(table)
    files.write(folder / "table.txt", text.getvalue() + "".join(f"{line}\n" for line in notes))
    if every := scores(results, classes, groups):
        files.write(folder / "scores.md", every)
    figures = folder / "figures"
    drawn(figures / "learning_curves.png", lambda: curves(results, metric, figures / "learning_curves.png"), log)
    if all("per_class" in r and r["per_class"] for seeds in results.values() for r in seeds):
        drawn(figures / "by_class.png", lambda: by_class(results, figures / "by_class.png", classes, groups), log)
    if all("confusion matrix" in r.get("matrices", {}) for seeds in results.values() for r in seeds):
        drawn(figures / "confusion.png", lambda: confusion(results, figures / "confusion.png", classes), log)
    return whole


def drawn(path: pathlib.Path, draw: Callable[[], None], log: Callable[[str], None]) -> None:
    """Draw a figure; after training, one that cannot be drawn must not lose the others."""
    try:
        draw()
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        log(f"figure {path.name} is skipped ({reason})")


def scores(results: Results, classes: Sequence[str] | None = None, groups: Mapping[str, Sequence[str]] = {}) -> str:
    """Return all metrics as Markdown tables of means and standard errors over seeds: overall, then by class.

    Args:
        results: training -> one result per seed.
        classes: names of the classes.
        groups: name of a group of metrics, such as "type" -> names of its members.

    Returns:
        Markdown; empty if there is only one metric.
    """
    first = next(iter(results.values()))[0]
    names = [k for k, v in first.items() if (v is None or isinstance(v, float)) and k != "validation"]
    if len(names) < 2:
        return ""

    def cells(each):
        values = np.array(each, float).T  # NaN for a class without rows
        return ["–" if math.isnan(v.mean()) else points(v.mean(), _stderr(v), share=False) for v in values]

    def table(of, columns, rows):
        return markdown_table([of, *columns], [[k, *v] for k, v in rows], "l" + "r" * len(columns))

    tables = [table("training", names, [(t, cells([[r[n] for n in names] for r in rs])) for t, rs in results.items()])]
    for by in dict.fromkeys(k.partition(" by ")[2] for k in first["per_class"]):
        metrics = [k for k in first["per_class"] if k.partition(" by ")[2] == by]
        count = len(first["per_class"][metrics[0]])
        named = _names(by, count, classes, groups)
        for training, seeds in results.items():
            columns = [cells([r["per_class"][k] for r in seeds]) for k in metrics]
            rows = zip(named, zip(*columns, strict=True), strict=True)
            heads = [k.partition(" by ")[0] for k in metrics]
            tables.append(f"## {training}, by {by}\n\n" + table(by, heads, rows))
    return "\n".join(tables)


def curves(results: Results, metric: str, path: pathlib.Path) -> None:
    """Plot training loss and validation metric over steps: one line per seed and their mean, for each training."""
    figure, (left, right) = figure_of(1, 2, 11, 4)
    for i, (training, seeds) in enumerate(results.items()):
        style: dict[str, Any] = {"color": f"C{i % 10}", "linestyle": _DASHES[i // 10 % len(_DASHES)]}
        for axes, name in ((left, "loss"), (right, metric)):
            lines = [([h["step"] for h in r["history"]], [h[name] for h in r["history"]]) for r in seeds]
            for x, y in lines:
                axes.plot(x, y, alpha=0.25, linewidth=0.8, **style)
            shortest = min(len(x) for x, _ in lines)
            mean = np.mean([y[:shortest] for _, y in lines], 0)
            marker = "o" if shortest == 1 else None  # a single evaluation is a point, not a line
            axes.plot(lines[0][0][:shortest], mean, linewidth=2, marker=marker, label=training, **style)
    positive = all(h["loss"] > 0 for seeds in results.values() for r in seeds for h in r["history"])
    left.set(xlabel="step", ylabel="loss (not comparable across trainings)", yscale="log" if positive else "linear")
    right.set(xlabel="step", ylabel=f"validation {metric}")
    right.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    save_figure(figure, path)


def by_class(
    results: Results,
    path: pathlib.Path,
    classes: Sequence[str] | None = None,
    groups: Mapping[str, Sequence[str]] = {},
) -> None:
    """Plot the metric per class, with trainings side by side; bars are means, whiskers standard errors over seeds."""
    name = next(iter(next(iter(results.values()))[0]["per_class"]))
    bars = sum(len(seeds[0]["per_class"][name]) for seeds in results.values())
    group = name.partition(" by ")[2]
    labels = _names(group, len(next(iter(results.values()))[0]["per_class"][name]), classes, groups)
    longest = max(map(len, labels))
    figure, (axes,) = figure_of(1, 1, max(11, 0.15 * bars), 4 + 0.07 * longest)
    width = 0.8 / len(results)
    for i, (training, seeds) in enumerate(results.items()):
        values = np.array([r["per_class"][name] for r in seeds], float)
        error = values.std(0, ddof=1) / math.sqrt(len(values)) if len(values) > 1 else None
        place = np.arange(values.shape[1]) + (i - (len(results) - 1) / 2) * width
        hatch = _HATCHES[i // 10 % len(_HATCHES)]
        axes.bar(place, values.mean(0), width, yerr=error, label=training, hatch=hatch, error_kw={"linewidth": 0.8})
    axes.set_xticks(range(len(labels)), labels, rotation=90 if longest > 5 and len(labels) > 10 else 0)
    axes.set(xlabel=group, ylabel=f"test {name}")
    if axes.get_ylim()[0] >= 0:  # correlations may be negative
        axes.set(ylim=(0, 1))
    axes.margins(x=0.01)
    axes.legend(frameon=False, ncols=min(len(results), 6), loc="lower center", bbox_to_anchor=(0.5, 1.0))
    save_figure(figure, path)


def confusion(results: Results, path: pathlib.Path, classes: Sequence[str] | None = None) -> None:
    """Plot the confusion matrix of each training, side by side: the share of a label's rows, over all seeds."""
    across = min(4, len(results))
    down = -(-len(results) // across)
    figure, panels = figure_of(down, across, 3.6 * across, 3.6 * down)
    for axes, (training, seeds) in zip(panels, results.items(), strict=False):
        counts = np.sum([r["matrices"]["confusion matrix"] for r in seeds], 0)
        shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        names = _names("class", len(counts), classes, {})
        if len(names) <= 20:
            axes.set_xticks(range(len(names)), names, rotation=0 if max(map(len, names)) < 3 else 90)
            axes.set_yticks(range(len(names)), names)
        for i, j in np.argwhere(shares >= 0.005) if len(names) <= 12 else ():
            color = "white" if shares[i, j] > 0.6 else "black"
            axes.text(j, i, f"{100 * shares[i, j]:.0f}", ha="center", va="center", fontsize=6, color=color)
        axes.set(title=training, xlabel="predicted, % of the label's rows", ylabel="label")
    for axes in panels[len(results) :]:
        axes.set_axis_off()
    save_figure(figure, path)


def examples(rows: Sequence[Mapping[str, Any]], path: pathlib.Path) -> None:
    """Plot examples: one row of panels per input, with a caption below each example.

    Args:
        rows: per example, `{input name: image [h, w] or [h, w, c] or spectrogram [t, f], …, "caption": text}`; inputs
            whose names start with "audio" are drawn with time to the right and low frequencies at the bottom.
        path: path of the PNG.
    """
    inputs = [k for k in rows[0] if k != "caption"]
    figure, panels = figure_of(len(inputs), len(rows), 1.5 * len(rows), 1.7 * len(inputs) + 0.5)
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
    save_figure(figure, path)


def _names(by, count, classes, groups) -> list[str]:
    named = groups.get(by, classes)
    return list(named) if named and len(named) == count else [str(i) for i in range(count)]


def _stderr(values) -> float | None:
    return float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else None


def points(mean: float, stderr: float | None, sign: str = "", share: bool = True) -> str:
    """Format a mean and its standard error, in percent if `share`; sign="+" always shows the sign, for differences.

    Example:
        >>> points(0.807, 0.002), points(0.01, None, "+"), points(0.722, 0.002, share=False)
        ('80.7 ± 0.2', '+1.0', '0.722 ± 0.002')
    """
    scale, form = (100, ".1f") if share else (1, ".3f")
    return f"{scale * mean:{sign}{form}}" + ("" if stderr is None else f" ± {scale * stderr:{form}}")


def _cells(row, share, many) -> list[str]:
    cells = [row["training"], points(row["mean"], row["stderr"], share=share), str(row["seeds"])]
    if row["difference"] is None:
        return [*cells, "", ""]
    gap = points(row["difference"], row["difference_stderr"], "+", share) + f" ({row['baseline']})" * many
    return [*cells, gap, span(row, share)]


def span(row: Mapping[str, Any], share: bool = True) -> str:
    """Format the smallest and largest difference of a row of `summarize`, in percentage points if `share`."""
    return " … ".join(points(row[k], None, "+", share) for k in ("smallest", "largest"))
