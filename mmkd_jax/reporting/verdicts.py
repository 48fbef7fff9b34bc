"""Verdicts on trainings: paired t-test against a baseline over seeds, in words."""

from collections.abc import Mapping

from scipy import stats

from mmkd_jax.reporting.markdown import markdown_table
from mmkd_jax.reporting.report import Results, points, span, summarize


def verdict(difference: float | None, stderr: float | None, seeds: int, level: float = 0.95) -> str:
    """Two-sided paired t-test of a difference to the baseline, as "helps", "hurts" or "no difference shown".

    Formula: |d| > t(level, n − 1) · s / √n, with s the standard deviation of the n paired differences

    Args:
        difference: mean paired difference over seeds; None for the baseline itself.
        stderr: standard error of the difference; None with one seed.
        seeds: number of seeds n.
        level: confidence level of the two-sided interval.

    Returns:
        The verdict; "one run" without a standard error, "" for the baseline.

    Example:
        >>> verdict(0.02, 0.004, 5), verdict(0.02, 0.01, 5), verdict(-0.02, 0.004, 5), verdict(0.02, None, 1)
        ('helps', 'no difference shown', 'hurts', 'one run')
    """
    if difference is None:
        return ""
    if stderr is None:
        return "one run"
    if abs(difference) <= stats.t.ppf((1 + level) / 2, seeds - 1) * stderr:
        return "no difference shown"
    return "helps" if difference > 0 else "hurts"


def page(results: Results, metric: str, baseline: str, groups: Mapping[str, str]) -> str:
    """Return a Markdown table of all trainings by group, with verdicts against the baseline.

    Args:
        results: training -> one result per seed.
        metric: name of the headline metric.
        baseline: training to compare with.
        groups: training -> group name; trainings without a group come first.

    Example:
        >>> seeds = {"kd": [{"accuracy": 0.80}, {"accuracy": 0.81}], "crd": [{"accuracy": 0.82}, {"accuracy": 0.83}]}
        >>> print(page(seeds, "accuracy", "kd", {"crd": "contrastive"}).splitlines()[-1])
        | contrastive | crd | 82.5 ± 0.5 | +2.0 ± 0.0 | +2.0 … +2.0 | 2 | helps |
    """
    rows = summarize(results, metric, baseline)
    heads = (
        "family",
        "training",
        f"{metric}, %",
        f"against {baseline}, points",
        "smallest … largest",
        "seeds",
        "verdict",
    )
    lines = []
    for row in sorted(rows, key=lambda r: r["training"] in groups):
        training, seeds = row["training"], row["seeds"]
        gap = ["", ""]
        if row["difference"] is not None:
            gap = [points(row["difference"], row["difference_stderr"], "+"), span(row)]
        outcome = verdict(row["difference"], row["difference_stderr"], seeds) if training in groups else ""
        lines.append(
            [groups.get(training, ""), training, points(row["mean"], row["stderr"]), *gap, str(seeds), outcome]
        )
    return markdown_table(heads, lines, "llrrrrl")
