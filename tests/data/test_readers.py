import dataclasses

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


def test_rows_that_were_read_are_not_read_again():
    read = []
    rows = dataclasses.replace(ROWS, fetch=lambda i: read.append(len(i)) or ROWS.fetch(i))
    some = rows.with_columns(twice=2 * ROWS.columns["x"])
    np.testing.assert_array_equal(some.fetch(np.array([3, 1]))["twice"], [6, 2])
    assert read == [2]
    _ = rows.columns
    np.testing.assert_array_equal(some.fetch(np.array([3, 1]))["x"], [3, 1])
    np.testing.assert_array_equal(some.where("odd").columns["twice"], 2 * np.arange(1, 23, 2))
    assert read == [2, 23]


def test_from_columns_refuses_unlike_lengths():
    with pytest.raises(UserError, match="unlike lengths"):
        data.from_columns({"a": np.zeros(2), "b": np.zeros(3)}, "bad")


def test_batch_size_of_nothing_is_refused():
    with pytest.raises(UserError, match="batch_size"):
        _ = data.Memory(ROWS, 0).spec


def test_slots_are_epochs_modulo_their_number():
    for reader in (data.Memory(ROWS, 8, slots=2), data.Pipeline(ROWS, 8, slots=2)):
        slots = np.concatenate([b["slot"] for b in take(reader, 12)])
        np.testing.assert_array_equal(slots, np.arange(96) // 23 % 2)
        assert slots.dtype == np.int32 and reader.fingerprint["slots"] == 2
        assert "slots" not in type(reader)(ROWS, 8).fingerprint
    with pytest.raises(UserError, match="slots must be at least 1"):
        take(data.Memory(ROWS, 8, slots=0), 1)


def test_partners_belong_to_row_and_slot():
    columns = {k: np.arange(23, dtype=t) for k, t in (("x", np.float32), ("label", np.int32))}
    columns |= {"labelled": np.arange(23) % 2 == 1, "present.text": np.arange(23) % 3 == 1}
    rows = data.from_columns(columns | {"text.ids": np.zeros((23, 2), np.int32)}, "small")
    partners = data.Partners(("x", "label", "text"), seed=2)
    assert set(partners.columns(rows)) == {"x", "label", "labelled", "text.ids", "present.text", "example_id"}
    readers = [data.Memory(rows, 8, partners=partners), data.Pipeline(rows, 8, partners=partners)]
    same(take(readers[0], 9), take(readers[1], 9))
    known = {}
    for size, seed in ((8, 3), (5, 4)):
        for batch in take(data.Memory(rows, size, slots=2, partners=partners), 20, seed=seed):
            np.testing.assert_array_equal(batch["partner.x"], batch["partner.example_id"])
            np.testing.assert_array_equal(batch["partner.labelled"], batch["partner.example_id"] % 2 == 1)
            for at in zip(batch["example_id"].tolist(), batch["slot"].tolist(), strict=True):
                i = batch["example_id"].tolist().index(at[0])
                other = int(batch["partner.x"][i])
                if batch["slot"][i] == at[1]:
                    assert known.setdefault(at, other) == other
    assert len(known) == 46 and len(set(known.values())) > 15
    assert any(known[i, 0] != known[i, 1] for i in range(23))
    (batch,) = take(readers[0], 1)
    assert {k: (v.shape, v.dtype) for k, v in batch.items()} == {
        k: (s.shape, s.dtype) for k, s in readers[0].spec.items()
    }
    assert not [k for b in readers[0].once() for k in b if k.startswith("partner.")]
    assert "seed=2" in readers[0].fingerprint["partners"]
    with pytest.raises(UserError, match="no column 'image'"):
        _ = data.Memory(rows, 8, partners=data.Partners(("image",))).spec


def test_every_row_is_a_partner_about_equally_often():
    ids = np.arange(50_000, dtype=np.int32)
    for slot in (0, 7):
        counts = np.bincount(data.Partners(()).rows(ids, np.full_like(ids, slot), 10), minlength=10)
        assert abs(counts / 5000 - 1).max() < 0.06
