"""Matplotlib figures without a GUI or global state; the only file that imports matplotlib."""

import io
import pathlib
from collections.abc import Sequence
from typing import Any

from mmkd_jax import files


def figure_of(
    rows: int, columns: int, width: float | int, height: float | int, width_ratios: Sequence[float] | None = None
) -> tuple[Any, list[Any]]:
    """Create a matplotlib figure and its axes, in row-major order.

    Args:
        rows: number of rows of panels.
        columns: number of columns of panels.
        width: figure width, in inches.
        height: figure height, in inches.
        width_ratios: relative widths of the columns; equal by default.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure((width, height), layout="constrained")
    FigureCanvasAgg(figure)  # not pyplot, which keeps figures in global state
    panels = figure.subplots(rows, columns, squeeze=False, width_ratios=width_ratios)
    for axes in panels.flat:
        axes.spines[["top", "right"]].set_visible(False)
    return figure, list(panels.flat)


def save_figure(figure: Any, path: pathlib.Path) -> None:
    """Write a figure as PNG, atomically."""
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=110)
    files.write(path, data.getvalue())
