"""Which arm helped: the paired difference to a baseline, over seeds, in words."""

from collections.abc import Mapping

from scipy import stats

from mmkd_jax.evaluate.report import Results, points, span, summarise


def verdict(difference: float | None, stderr: float | None, seeds: int, level: float = 0.95) -> str:
    """What a paired difference says: "helps", "hurts", or "no difference shown".

    Formula: |d| > t(level, n − 1) · s / √n, s the standard deviation of the n paired differences

    Args:
        difference: mean over the seeds; None of the baseline itself.
        stderr: its standard error; None with one seed.
        seeds: n.
        level: of confidence, of a two-sided interval.

    Returns:
        A few words; "one run" where there is no standard error, "" for the baseline.

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
    """A Markdown table of all arms, by group, each with its verdict against the baseline.

    Args:
        results: arm -> a result for each seed.
        metric: name of the headline metric.
        baseline: the arm that others are compared with.
        groups: arm -> name of its group; arms without one come first.

    Example:
        >>> seeds = {"kd": [{"accuracy": 0.80}, {"accuracy": 0.81}], "crd": [{"accuracy": 0.82}, {"accuracy": 0.83}]}
        >>> print(page(seeds, "accuracy", "kd", {"crd": "contrastive"}).splitlines()[-1])
        | contrastive | crd | 82.5 ± 0.5 | +2.0 ± 0.0 | +2.0 … +2.0 | 2 | helps |
    """
    rows = summarise(results, metric, baseline)
    heads = ("family", "arm", f"{metric}, %", f"against {baseline}, points", "smallest … largest", "seeds", "verdict")
    lines = [" | ".join(heads), " | ".join(["---", "---", *["---:"] * 4, "---"])]
    for row in sorted(rows, key=lambda r: r["arm"] in groups):
        arm, seeds = row["arm"], row["seeds"]
        gap = ["", ""]
        if row["difference"] is not None:
            gap = [points(row["difference"], row["difference_stderr"], "+"), span(row)]
        said = verdict(row["difference"], row["difference_stderr"], seeds) if arm in groups else ""
        cells = [groups.get(arm, ""), arm, points(row["mean"], row["stderr"]), *gap, str(seeds), said]
        lines.append(" | ".join(cells))
    return "".join(f"| {line} |\n" for line in lines)
