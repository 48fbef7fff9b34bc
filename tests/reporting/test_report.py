import json
import math

import numpy as np
import pytest
from PIL import Image

from mmkd_jax.errors import UserError
from mmkd_jax.reporting import report


def result(accuracy, steps=4, by_class=(0.5, 0.75, 1.0)):
    """What a training leaves for one seed."""
    history = [
        {"step": 10 * (i + 1), "loss": 1.0 / (i + 1), "accuracy": accuracy * (i + 1) / steps} for i in range(steps)
    ]
    return {"accuracy": accuracy, "history": history, "per_class": {"accuracy by class": list(by_class)}}


RESULTS = {
    "labels": [result(a) for a in (0.60, 0.70, 0.65)],
    "distilled": [result(a) for a in (0.80, 0.75, 0.85)],
}


def is_picture(path):
    data = path.read_bytes()
    return data.startswith(b"\x89PNG\r\n\x1a\n") and len(data) > 5_000


def test_summary_by_hand():
    labels, distilled = report.summarize(RESULTS, "accuracy", baseline="labels")
    assert labels["training"] == "labels" and labels["seeds"] == 3
    assert labels["mean"] == pytest.approx(0.65)
    assert labels["stderr"] == pytest.approx(0.05 / math.sqrt(3))  # (−5, 5, 0): s² = 50 / 2
    assert [labels[k] for k in ("difference", "difference_stderr", "smallest", "largest")] == [None] * 4
    assert distilled["mean"] == pytest.approx(0.80)
    # of the same seeds: 20, 5, 20 points; s² = (25 + 100 + 25) / 2
    assert distilled["difference"] == pytest.approx(0.15)
    assert distilled["difference_stderr"] == pytest.approx(math.sqrt(75) / 100 / math.sqrt(3))
    assert distilled["smallest"] == pytest.approx(0.05) and distilled["largest"] == pytest.approx(0.20)


def test_the_difference_is_paired():
    """Unpaired, the standard error would be that of two wide spreads."""
    far = {"a": [{"x": v} for v in (0.1, 0.5, 0.9)], "b": [{"x": v} for v in (0.2, 0.6, 1.0)]}
    row = report.summarize(far, "x", "a")[1]
    assert row["difference"] == pytest.approx(0.1) and row["difference_stderr"] == pytest.approx(0.0, abs=1e-12)


def test_one_seed_has_no_standard_error():
    row = report.summarize({"a": [{"x": 0.5}], "b": [{"x": 0.75}]}, "x", "a")[1]
    assert row == {
        "training": "b",
        "seeds": 1,
        "mean": 0.75,
        "stderr": None,
        "baseline": "a",
        "difference": 0.25,
        "difference_stderr": None,
        "smallest": 0.25,
        "largest": 0.25,
    }


def test_without_a_baseline_nothing_is_compared():
    assert all(row["difference"] is None for row in report.summarize(RESULTS, "accuracy"))


def test_an_unknown_baseline_is_refused_with_the_parts_that_exist():
    with pytest.raises(UserError, match="'label' is not a training; available: labels, distilled"):
        report.summarize(RESULTS, "accuracy", "label")


def test_write_gives_one_table_in_three_forms_and_the_figures(tmp_path):
    report.write(tmp_path, RESULTS, "accuracy", "labels", "digits", ["zero", "one", "two"])
    made = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file())
    assert made == ["figures/by_class.png", "figures/learning_curves.png", "table.json", "table.md", "table.txt"]
    assert all(is_picture(p) for p in tmp_path.rglob("*.png"))
    table = json.loads((tmp_path / "table.json").read_text())
    assert table["metric"] == "accuracy" and table["baseline"] == "labels"
    assert table["rows"] == report.summarize(RESULTS, "accuracy", "labels")
    assert (tmp_path / "table.md").read_text().splitlines() == [
        "| training | accuracy, % | seeds | against labels, points | smallest … largest |",
        "| --- | ---: | ---: | ---: | ---: |",
        "| labels | 65.0 ± 2.9 | 3 |  |  |",
        "| distilled | 80.0 ± 2.9 | 3 | +15.0 ± 5.0 | +5.0 … +20.0 |",
    ]
    text = (tmp_path / "table.txt").read_text()
    assert text.split()[0] == "digits"
    assert "80.0 ± 2.9" in text and "+15.0 ± 5.0" in text and "+5.0 … +20.0" in text


def test_a_table_of_one_seed_without_a_baseline(tmp_path):
    report.write(tmp_path, {"only": [result(0.5)]}, "accuracy", None, "one")
    assert (tmp_path / "table.md").read_text().splitlines() == [
        "| training | accuracy, % | seeds |",
        "| --- | ---: | ---: |",
        "| only | 50.0 | 1 |",
    ]
    assert is_picture(tmp_path / "figures" / "by_class.png")


def test_a_metric_that_is_no_share_is_told_as_it_is(tmp_path):
    report.write(tmp_path, RESULTS, "accuracy", "labels", "r", share=False)
    assert (tmp_path / "table.md").read_text().splitlines()[::3] == [
        "| training | accuracy | seeds | against labels | smallest … largest |",
        "| distilled | 0.800 ± 0.029 | 3 | +0.150 ± 0.050 | +0.050 … +0.200 |",
    ]


def test_results_without_classes_get_no_figure_by_class(tmp_path):
    plain = {"a": [{k: v for k, v in result(0.5).items() if k != "per_class"}]}
    report.write(tmp_path, plain, "accuracy", None, "plain")
    assert [p.name for p in tmp_path.rglob("*.png")] == ["learning_curves.png"]


def test_curves_of_unequal_length(tmp_path):
    """A seed that stopped early has fewer points; the mean goes as far as all do."""
    report.curves({"a": [result(0.5, steps=2), result(0.7, steps=5)]}, "accuracy", tmp_path / "c.png")
    assert is_picture(tmp_path / "c.png")


def test_curves_of_losses_that_are_not_positive(tmp_path):
    below = {"a": [result(0.5) | {"history": [{"step": i, "loss": -float(i), "accuracy": 0.5} for i in (1, 2)]}]}
    report.curves(below, "accuracy", tmp_path / "c.png")
    assert is_picture(tmp_path / "c.png")


def test_long_names_of_many_classes_do_not_overlap(tmp_path):
    results = {"labels": [result(0.5, by_class=np.linspace(0, 1, 46))]}
    report.by_class(results, tmp_path / "short.png")
    report.by_class(results, tmp_path / "long.png", [f"Transportation + {i}" for i in range(46)])
    heights = [Image.open(tmp_path / f"{name}.png").height for name in ("short", "long")]
    assert heights[1] > heights[0] + 100  # they are turned, and the bars keep their height


def test_examples(tmp_path):
    draw = np.random.default_rng(0)
    rows = [
        {"image": draw.random((28, 28, 1)), "audio": draw.random((32, 20)), "caption": f"label {i}\nstudent 3"}
        for i in range(3)
    ]
    report.examples(rows, tmp_path / "figures" / "examples.png")
    assert is_picture(tmp_path / "figures" / "examples.png")


def test_sixteen_arms_are_told_apart_and_one_look_is_a_point(tmp_path):
    """Ten colors come again with other dashes; a single look draws a marker, not nothing."""
    from matplotlib import colors
    from matplotlib.image import imread

    many = {f"training {i}": [result(0.5 + 0.02 * i), result(0.51 + 0.02 * i)] for i in range(16)}
    report.curves(many, "accuracy", tmp_path / "many.png")
    report.by_class(many, tmp_path / "by_class.png")
    assert is_picture(tmp_path / "many.png") and is_picture(tmp_path / "by_class.png")
    report.curves({"one": [result(0.5, steps=1)]}, "accuracy", tmp_path / "one.png")
    picture = imread(tmp_path / "one.png")[..., :3]
    there = np.all(np.abs(picture - np.array(colors.to_rgb("C0"))) < 0.02, -1)
    left, right = there[:, : there.shape[1] // 2].sum(), there[:, there.shape[1] // 2 :].sum()
    assert left > 20 and right > 20


def test_confusion_matrices_side_by_side(tmp_path):
    matrix = [[8.0, 2.0, 0.0], [1.0, 9.0, 0.0], [0.0, 0.0, 0.0]]  # a class without rows
    found = {f"training {i}": [result(0.5) | {"matrices": {"confusion matrix": matrix}}] for i in range(5)}
    report.write(tmp_path, found, "accuracy", None, "digits", ["zero", "one", "two"])
    assert is_picture(tmp_path / "figures" / "confusion.png")


def test_scores_of_several_metrics_and_groups_by_hand():
    def result(r, mae, by):
        return {
            "training": "a",
            "seed": 0,
            "r": r,
            "mae": mae,
            "validation": 0.5,
            "best_step": 3,
            "per_class": {"r by x": by},
        }

    found = report.scores({"a": [result(0.5, 1.0, [0.1, 0.2]), result(0.7, 2.0, [0.3, 0.2])]}, ["one", "two"])
    assert found.splitlines() == [
        "| training | r | mae |",
        "| --- | ---: | ---: |",
        "| a | 0.600 ± 0.100 | 1.500 ± 0.500 |",
        "",
        "## a, by x",
        "",
        "| x | r |",
        "| --- | ---: |",
        "| one | 0.200 ± 0.100 |",
        "| two | 0.200 ± 0.000 |",
    ]
    assert report.scores({"a": [{"accuracy": 0.5, "validation": 0.4, "per_class": {}}]}) == ""


def test_groups_that_are_no_classes_have_their_own_names():
    """As many types as classes are no reason to name them alike; names that nothing tells are numbers."""
    by = {"f1 by tag": [0.5, 0.5], "span f1 by type": [0.5, 0.25], "f1 by grade class": [0.5, 1.0]}
    results = {"a": [{"accuracy": 0.5, "span f1": 0.4, "per_class": by}]}
    found = report.scores(results, ["B-X", "B-Y"], {"type": ("X", "Y"), "grade class": ()})
    rows = [line.split(" | ")[0].removeprefix("| ") for line in found.splitlines() if line.startswith("| ")]
    assert rows[3:] == ["tag", "---", "B-X", "B-Y", "type", "---", "X", "Y", "grade class", "---", "0", "1"]
