import dataclasses

import jax
import numpy as np
import pytest

from mmkd_jax import data
from mmkd_jax.data.loader import Loader, check_loader
from mmkd_jax.errors import UserError
from mmkd_jax.training import loop
from tests import tiny_experiment

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
    memory, pipeline = data.InMemory(ROWS, 8), data.GrainLoader(ROWS, 8)
    assert isinstance(memory, Loader) and isinstance(pipeline, Loader)
    same(take(memory, 7), take(pipeline, 7))
    same(list(memory.eval_batches()), list(pipeline.eval_batches()))
    assert memory.spec == pipeline.spec and memory.fingerprint == pipeline.fingerprint


def test_batches_match_their_spec():
    for reader in (data.InMemory(ROWS, 8), data.GrainLoader(ROWS, 8)):
        (batch,) = take(reader, 1)
        assert {k: (v.shape, v.dtype) for k, v in batch.items()} == {
            k: (s.shape, s.dtype) for k, s in reader.spec.items()
        }


def test_going_on_from_a_step():
    for reader in (data.InMemory(ROWS, 8), data.GrainLoader(ROWS, 8)):
        same(take(reader, 6)[4:], take(reader, 2, start=4))


def test_every_epoch_has_each_row_once_and_says_which_epoch():
    batches = take(data.InMemory(ROWS, 8), 23)
    x, view_index = (np.concatenate([b[k] for b in batches]) for k in ("x", "view_index"))
    for epoch in range(8):
        np.testing.assert_array_equal(np.sort(x[view_index == epoch]), np.arange(23))


def test_seeds_differ():
    assert (take(data.InMemory(ROWS, 23), 1, seed=0)[0]["x"] != take(data.InMemory(ROWS, 23), 1, seed=1)[0]["x"]).any()


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_processes_take_parts_of_one_global_batch(processes):
    trainings = [take(data.GrainLoader(ROWS, 8, p, processes), 5) for p in range(processes)]
    joined = [{k: np.concatenate([p[i][k] for p in trainings]) for k in trainings[0][i]} for i in range(5)]
    same(joined, take(data.GrainLoader(ROWS, 8), 5))


def test_processes_that_do_not_divide_are_refused():
    with pytest.raises(UserError, match="8 is not divisible by 3"):
        data.GrainLoader(ROWS, 8, 0, 3).batches(0)


def test_once_pads_and_says_so():
    batches = list(data.InMemory(ROWS, 10).eval_batches())
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
    batch = take(data.GrainLoader(more, 4), 1)[0]
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
    with pytest.raises(UserError, match="different lengths"):
        data.from_columns({"a": np.zeros(2), "b": np.zeros(3)}, "bad")


def test_batch_size_of_nothing_is_refused():
    with pytest.raises(UserError, match="batch_size"):
        _ = data.InMemory(ROWS, 0).spec


def test_slots_are_epochs_modulo_their_number():
    for reader in (data.InMemory(ROWS, 8, num_views=2), data.GrainLoader(ROWS, 8, num_views=2)):
        num_views = np.concatenate([b["view_index"] for b in take(reader, 12)])
        np.testing.assert_array_equal(num_views, np.arange(96) // 23 % 2)
        assert num_views.dtype == np.int32 and reader.fingerprint["num_views"] == 2
        assert "num_views" not in type(reader)(ROWS, 8).fingerprint
    with pytest.raises(UserError, match="views must be at least 1"):
        take(data.InMemory(ROWS, 8, num_views=0), 1)


def test_partners_belong_to_row_and_slot():
    columns = {k: np.arange(23, dtype=t) for k, t in (("x", np.float32), ("label", np.int32))}
    columns |= {"labelled": np.arange(23) % 2 == 1, "present.text": np.arange(23) % 3 == 1}
    rows = data.from_columns(columns | {"text.ids": np.zeros((23, 2), np.int32)}, "small")
    partners = data.Partners(("x", "label", "text"), seed=2)
    assert set(partners.columns(rows)) == {"x", "label", "labelled", "text.ids", "present.text", "example_id"}
    readers = [data.InMemory(rows, 8, partners=partners), data.GrainLoader(rows, 8, partners=partners)]
    same(take(readers[0], 9), take(readers[1], 9))
    known = {}
    for size, seed in ((8, 3), (5, 4)):
        for batch in take(data.InMemory(rows, size, num_views=2, partners=partners), 20, seed=seed):
            np.testing.assert_array_equal(batch["partner.x"], batch["partner.example_id"])
            np.testing.assert_array_equal(batch["partner.labelled"], batch["partner.example_id"] % 2 == 1)
            for at in zip(batch["example_id"].tolist(), batch["view_index"].tolist(), strict=True):
                i = batch["example_id"].tolist().index(at[0])
                other = int(batch["partner.x"][i])
                if batch["view_index"][i] == at[1]:
                    assert known.setdefault(at, other) == other
    assert len(known) == 46 and len(set(known.values())) > 15
    assert any(known[i, 0] != known[i, 1] for i in range(23))
    (batch,) = take(readers[0], 1)
    assert {k: (v.shape, v.dtype) for k, v in batch.items()} == {
        k: (s.shape, s.dtype) for k, s in readers[0].spec.items()
    }
    assert not [k for b in readers[0].eval_batches() for k in b if k.startswith("partner.")]
    assert "seed=2" in readers[0].fingerprint["partners"]
    with pytest.raises(UserError, match="no column 'image'"):
        _ = data.InMemory(rows, 8, partners=data.Partners(("image",))).spec


def test_every_row_is_a_partner_about_equally_often():
    ids = np.arange(50_000, dtype=np.int32)
    for view_index in (0, 7):
        counts = np.bincount(data.Partners(()).rows(ids, np.full_like(ids, view_index), 10), minlength=10)
        assert abs(counts / 5000 - 1).max() < 0.06


class Own:
    """A user's loader, without a base class: some members of the protocol are missing where a test removes them."""

    def __init__(self, inner):
        self.inner, self.shares = inner, []
        self.dataset, self.batch_size, self.spec, self.size = inner.dataset, inner.batch_size, inner.spec, inner.size
        self.num_views, self.partners, self.fingerprint = None, None, inner.fingerprint

    def batches(self, seed, start=0):
        return self.inner.batches(seed, start)

    def eval_batches(self):
        return self.inner.eval_batches()

    def with_records(self, records, about):
        raise NotImplementedError

    def with_columns(self, **columns):
        raise NotImplementedError

    def share(self, index, count):
        self.shares.append((index, count))
        return self


def test_a_loader_of_ones_own_is_shared_over_processes_or_refused_by_name(monkeypatch):
    training = tiny_experiment.trainings(tiny_experiment.Config())["teacher"]
    own = Own(data.GrainLoader(training.data.dataset, 16))
    assert isinstance(own, Loader)
    replaced = dataclasses.replace(training, data=own)
    monkeypatch.setattr(jax, "process_count", lambda: 4)
    monkeypatch.setattr(jax, "process_index", lambda: 3)
    loop._source(replaced.data, 0, 0)
    assert own.shares == [(3, 4)]
    monkeypatch.delattr(Own, "share")
    with pytest.raises(UserError, match="data is a Own, which has no share: expected a Loader"):
        check_loader(own, "data")
