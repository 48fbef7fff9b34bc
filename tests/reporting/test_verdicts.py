"""Verdicts on paired differences."""

import json
import pathlib

import numpy as np
from scipy import stats

from mmkd_jax.reporting import verdicts


def test_a_verdict_is_a_paired_t_test():
    draw = np.random.default_rng(0)
    seen = set()
    for shift in (-0.03, 0.0, 0.01, 0.03):
        base = draw.normal(0.8, 0.02, 5)
        training = base + draw.normal(shift, 0.01, 5)
        results = {n: [{"accuracy": x} for x in v] for n, v in (("kd", base), ("training", training))}
        said = verdicts.page(results, "accuracy", "kd", {"training": "family"}).splitlines()[-1].split(" | ")[-1][:-2]
        sure = stats.ttest_rel(training, base).pvalue < 0.05
        assert said == (("helps" if training.mean() > base.mean() else "hurts") if sure else "no difference shown")
        seen.add(said)
    assert len(seen) == 3


def test_arms_of_no_family_come_first_and_the_baseline_has_no_verdict():
    results = {n: [{"accuracy": x} for x in (0.5, 0.6)] for n in ("crd", "kd")}
    lines = verdicts.page(results, "accuracy", "kd", {"crd": "contrastive"}).splitlines()
    assert lines[2] == "|  | kd | 55.0 ± 5.0 |  |  | 2 |  |"
    assert lines[3].startswith("| contrastive | crd | 55.0 ± 5.0 | +0.0 ± 0.0")


def test_the_page_of_families_is_what_its_results_say():
    docs = pathlib.Path(__file__).parents[2] / "docs"
    saved = json.loads((docs / "families.json").read_text())
    table = verdicts.page(saved["results"], "accuracy", "kd", saved["families"])
    page = (docs / "families.md").read_text()
    assert page.endswith("\n\n" + table) and saved["made"] in page
