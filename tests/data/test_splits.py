import numpy as np
import pytest
from scipy.sparse import coo_array, csgraph

from mmkd_jax.data.splits import joined, split


def test_joined_by_way_of_others():
    assert joined([["a"], ["b"], ["c"], ["b", "c"], ["d", "a"], ["e"]]) == [0, 1, 1, 1, 0, 2]
    assert joined([]) == []
    # as the parts of a graph that SciPy finds
    draw = np.random.default_rng(0)
    pairs = draw.integers(0, 400, (300, 2))
    _, trainings = csgraph.connected_components(coo_array((np.ones(300), pairs.T), (400, 400)), directed=False)
    lots = np.array(joined(pairs.tolist()))
    mine = trainings[pairs[:, 0]]
    np.testing.assert_array_equal(lots[:, None] == lots, mine[:, None] == mine)


@pytest.mark.parametrize("seed", [0, 1])
def test_shares_are_kept_and_lots_whole(seed):
    lots = np.random.default_rng(9).integers(0, 300, 2_000).tolist()
    found = np.array(split(np.random.default_rng(seed), lots, {"test": 0.2, "validation": 0.1}))
    shares = {name: (found == name).mean() for name in ("train", "validation", "test")}
    assert shares == pytest.approx({"train": 0.7, "validation": 0.1, "test": 0.2}, abs=0.01)
    for lot in set(lots):
        assert len(set(found[np.array(lots) == lot])) == 1
    again = split(np.random.default_rng(seed), lots, {"test": 0.2, "validation": 0.1})
    assert found.tolist() == again != split(np.random.default_rng(seed + 7), lots, {"test": 0.2, "validation": 0.1})
