"""Draw the README's figure of the data flow: `python docs/data_flow.py` writes docs/figures/data-flow.png."""

import pathlib

from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

# name, second line, left edge, bottom edge, color
BOXES = {
    "data": ("mmkd.data", "rows → batches,\nkeyed by (seed, step)", 0, 1, "#dfe7f3"),
    "augment": ("mmkd.augment", "one view for all models,\nkeyed by example", 2.3, 1, "#dfe7f3"),
    "teacher": ("Frozen(teacher)", "runs, or is read\nfrom its cache", 4.6, 2, "#f6e3cf"),
    "student": ("Trained(student)", "fewer modalities,\nfewer parameters", 4.6, 0, "#d9eedd"),
    "outputs": ("outputs", '"student.logits",\n"teacher.features.image"', 6.9, 1, "#eeeeee"),
    "objective": ("mmkd.combine", "losses and methods\nbound to outputs", 9.2, 1, "#f3dfe4"),
    "step": ("step", "(state, frozen, batch) →\n(state, metrics)", 11.5, 1, "#e6e0f3"),
}
ARROWS = [
    ("data", "augment"),
    ("augment", "teacher"),
    ("augment", "student"),
    ("teacher", "outputs"),
    ("student", "outputs"),
    ("outputs", "objective"),
    ("objective", "step"),
]
WIDTH, HEIGHT = 1.95, 0.9


def draw(path: pathlib.Path) -> None:
    """Write the figure as PNG."""
    figure = Figure((13.2, 3.7), layout="constrained")
    axes = figure.subplots()
    for title, text, x, y, color in BOXES.values():
        axes.add_patch(
            FancyBboxPatch((x, y), WIDTH, HEIGHT, boxstyle="round,pad=0.03", facecolor=color, edgecolor="#555")
        )
        axes.text(x + WIDTH / 2, y + 0.66, title, ha="center", va="center", family="monospace", fontsize=10.5)
        axes.text(x + WIDTH / 2, y + 0.28, text, ha="center", va="center", fontsize=8.5, color="#333")
    for source, target in ARROWS:
        (_, _, x0, y0, _), (_, _, x1, y1, _) = BOXES[source], BOXES[target]
        axes.annotate(
            "",
            (x1 - 0.05, y1 + HEIGHT / 2),
            (x0 + WIDTH + 0.05, y0 + HEIGHT / 2),
            arrowprops={"arrowstyle": "-|>", "color": "#333"},
        )
    forms = "compiled by jit, shard_map, pmap,\nor vmap over seeds and hyperparameters"
    axes.text(11.5 + WIDTH / 2, 2.05, forms, ha="center", va="bottom", fontsize=8.5, color="#333")
    student, step = 4.6 + WIDTH / 2, 11.5 + WIDTH / 2
    axes.plot([step, step, student], [0.92, -0.4, -0.4], color="#333", linewidth=1)
    axes.annotate("", (student, -0.05), (student, -0.42), arrowprops={"arrowstyle": "-|>", "color": "#333"})
    back = "gradients → optax → one explicit state, saved whole by Orbax"
    axes.text((student + step) / 2, -0.34, back, ha="center", va="bottom", fontsize=8.5, color="#333")
    axes.set(xlim=(-0.15, 13.7), ylim=(-0.75, 3.1))
    axes.axis("off")
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    draw(pathlib.Path(__file__).parent / "figures" / "data-flow.png")
