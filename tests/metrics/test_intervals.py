"""Bootstrap intervals, against the theory of means and enumeration."""

import itertools

import numpy as np
import pytest

from mmkd_jax import metrics


def mean(rows):
    return float(np.mean(rows["x"]))


def test_the_interval_of_a_mean_is_that_of_the_normal_distribution():
    x = np.random.default_rng(0).normal(size=400)
    found = metrics.bootstrap(mean, {"x": x})
    assert found.value == x.mean() and found.groups == 400 and (found.counted, found.left_out) == (1000, 0)
    half = 1.96 * x.std() / 20
    assert [found.low, found.high] == pytest.approx([x.mean() - half, x.mean() + half], abs=half / 8)
    narrow = metrics.bootstrap(mean, {"x": x}, level=0.5)
    assert found.low < narrow.low < narrow.high < found.high


def test_whole_groups_are_drawn():
    rows = {"x": np.array([0.0, 0.0, 1.0, 1.0, 1.0, 4.0])}
    groups = np.array(["a", "a", "b", "b", "b", "c"])
    draws = itertools.product("abc", repeat=3)
    possible = {np.mean(np.concatenate([rows["x"][groups == g] for g in draw])).round(9) for draw in draws}
    seen = []
    metrics.bootstrap(lambda r: seen.append(mean(r)) or 0.0, rows, groups, repeats=300)
    assert {round(value, 9) for value in seen} == possible


def test_alike_rows_of_a_group_widen_the_interval():
    draw = np.random.default_rng(1)
    groups = np.repeat(np.arange(30), 10)
    rows = {"x": np.repeat(draw.normal(size=30), 10) + 0.1 * draw.normal(size=300)}
    by_row, by_group = (metrics.bootstrap(mean, rows, g, repeats=300) for g in (None, groups))
    assert by_group.high - by_group.low > 2 * (by_row.high - by_row.low)


def test_it_depends_on_the_seed_alone():
    x, groups = np.arange(12.0), np.repeat(np.arange(4), 3)
    first, again, other = (metrics.bootstrap(mean, {"x": x}, groups, repeats=50, seed=s) for s in (0, 0, 1))
    assert first == again != other
    order = np.random.default_rng(2).permutation(12)
    assert metrics.bootstrap(mean, {"x": x[order]}, groups[order], repeats=50) == first


def test_undefined_resamples_are_left_out_and_counted():
    rows = {"y": np.array([1, 0, 0, 0]), "s": np.array([0.9, 0.1, 0.2, 0.3])}
    found = metrics.bootstrap(lambda r: metrics.auroc(r["y"], r["s"]), rows, repeats=200)
    assert found.left_out > 0 and found.counted + found.left_out == 200
    assert (found.value, found.low, found.high) == (1.0, 1.0, 1.0)
    undefined = metrics.bootstrap(lambda r: float("nan"), rows, repeats=5)
    assert np.isnan([undefined.value, undefined.low, undefined.high]).all() and undefined.left_out == 5
    one = metrics.bootstrap(mean, {"x": np.arange(3.0)}, np.zeros(3, int))
    assert one.value == 1 and np.isnan(one.low) and one.groups == 1


def test_a_query_that_is_drawn_twice_counts_as_two_if_it_is_renumbered():
    draw = np.random.default_rng(3)
    rows = {"q": np.repeat(np.arange(8), 5), "s": draw.normal(size=40), "r": draw.integers(0, 2, 40)}
    by_query = metrics.ndcg(rows["s"], rows["r"], rows["q"]).values
    seen = []

    def metric(r):
        found = metrics.ndcg(r["s"], r["r"], r["q"])
        seen.append(found)
        return found.value

    metrics.bootstrap(metric, rows, rows["q"], repeats=20, renumber=("q",))
    assert all(len(found.values) == 8 and set(found.values) <= set(by_query) for found in seen[1:])
    seen.clear()
    metrics.bootstrap(metric, rows, rows["q"], repeats=20)
    assert all(len(found.values) < 8 for found in seen[1:])  # merged
