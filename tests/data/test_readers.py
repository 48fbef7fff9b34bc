import jax
import numpy as np
import pytest

from mmkd_jax import data
from mmkd_jax.data.reader import Reader
from mmkd_jax.errors import UserError

ROWS = data.from_columns({"x": np.arange(23, dtype=np.float32), "odd": np.arange(23) % 2 == 1}, "small")


def take(reader, n, seed=3, start=0):
    batches = reader.batches(seed, start)
    return [jax.tree.map(np.asarray, dict(next(batches))) for _ in range(n)]


def same(a, b):
    assert len(a) == len(b)
    for one, two in zip(a, b, strict=True):
        assert one.keys() == two.keys()
        for k in one:
            np.testing.assert_array_equal(one[k], two[k], err_msg=k)
            assert one[k].dtype == two[k].dtype


def test_two_readers_one_sequence_of_batches():
    memory, pipeline = data.Memory(ROWS, 8), data.Pipeline(ROWS, 8)
    assert isinstance(memory, Reader) and isinstance(pipeline, Reader)
    same(take(memory, 7), take(pipeline, 7))
    same(list(memory.once()), list(pipeline.once()))
    assert memory.spec == pipeline.spec and memory.fingerprint == pipeline.fingerprint


def test_batches_match_their_spec():
    for reader in (data.Memory(ROWS, 8), data.Pipeline(ROWS, 8)):
        (batch,) = take(reader, 1)
        assert {k: (v.shape, v.dtype) for k, v in batch.items()} == {
            k: (s.shape, s.dtype) for k, s in reader.spec.items()
        }


def test_going_on_from_a_step():
    for reader in (data.Memory(ROWS, 8), data.Pipeline(ROWS, 8)):
        same(take(reader, 6)[4:], take(reader, 2, start=4))


def test_every_epoch_has_each_row_once_and_says_which_epoch():
    batches = take(data.Memory(ROWS, 8), 23)
    x, slot = (np.concatenate([b[k] for b in batches]) for k in ("x", "slot"))
    for epoch in range(8):
        np.testing.assert_array_equal(np.sort(x[slot == epoch]), np.arange(23))


def test_seeds_differ():
    assert (take(data.Memory(ROWS, 23), 1, seed=0)[0]["x"] != take(data.Memory(ROWS, 23), 1, seed=1)[0]["x"]).any()


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_processes_take_parts_of_one_global_batch(processes):
    parts = [take(data.Pipeline(ROWS, 8, p, processes), 5) for p in range(processes)]
    joined = [{k: np.concatenate([p[i][k] for p in parts]) for k in parts[0][i]} for i in range(5)]
    same(joined, take(data.Pipeline(ROWS, 8), 5))


def test_processes_that_do_not_divide_are_refused():
    with pytest.raises(UserError, match="8 does not divide over 3"):
        data.Pipeline(ROWS, 8, 0, 3).batches(0)


def test_once_pads_and_says_so():
    batches = list(data.Memory(ROWS, 10).once())
    assert [int(b["valid"].sum()) for b in batches] == [10, 10, 3]
    np.testing.assert_array_equal(np.concatenate([b["x"][b["valid"]] for b in batches]), np.arange(23))


def test_where_and_more_columns():
    odd = ROWS.where("odd")
    assert odd.size == 11 and odd.fingerprint != ROWS.fingerprint
    np.testing.assert_array_equal(odd.columns["x"], np.arange(1, 23, 2))
    rest = ROWS.where("odd", False)
    assert rest.size == 12 and rest.fingerprint not in (odd.fingerprint, ROWS.fingerprint)
    np.testing.assert_array_equal(rest.columns["x"], np.arange(0, 23, 2))
    assert (rest.where("odd").size, rest.where("odd", False).size, odd.where("odd", False).size) == (0, 12, 0)
    more = odd.with_columns(twice=2 * odd.columns["x"])
    np.testing.assert_array_equal(more.columns["twice"], 2 * more.columns["x"])
    batch = take(data.Pipeline(more, 4), 1)[0]
    np.testing.assert_array_equal(batch["twice"], 2 * batch["x"])
    assert more.fingerprint != odd.with_columns(twice=odd.columns["x"]).fingerprint
    assert more.spec["twice"].shape == ()
    with pytest.raises(UserError, match="rows"):
        odd.with_columns(short=np.zeros(3))
    with pytest.raises(UserError, match="even"):
        ROWS.where("even")


def test_from_columns_refuses_unlike_lengths():
    with pytest.raises(UserError, match="unlike lengths"):
        data.from_columns({"a": np.zeros(2), "b": np.zeros(3)}, "bad")


def test_batch_size_of_nothing_is_refused():
    with pytest.raises(UserError, match="batch_size"):
        _ = data.Memory(ROWS, 0).spec
