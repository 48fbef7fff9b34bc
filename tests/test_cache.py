"""A teacher's outputs on disk: as exact as running it, of what they say they are, made once."""

import dataclasses
import errno
import json
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmkd_jax import augment, cache, data, experiment, losses, runner, train
from mmkd_jax.cache import Kept
from mmkd_jax.errors import UserError
from mmkd_jax.objective import combine, term
from mmkd_jax.views import Context
from tests import tiny_experiment

QUIET = runner.Observer(say=lambda line: None)
CHAIN = augment.Augmented((augment.images.Flip(), augment.images.Crop(1)), seed=5)


def tiny(kept=("logits",), chain=CHAIN, slots=3, reader=data.Memory, soft=losses.kl, **numbers):
    """The tiny experiment; its student reads a cached teacher, a line of the learning curve each step."""

    def parts(config):
        made = tiny_experiment.parts(dataclasses.replace(config, steps=10))
        rows = made["student"].data.dataset
        own = combine(
            task=made["student"].task.objective(),
            soft=term(soft, student="student.logits", teacher="teacher.logits", **({"temperature": 2} | numbers)),
        )
        student = dataclasses.replace(
            made["student"],
            objective=own,
            data=reader(rows, 16, slots=slots),
            augment=chain,
            cache={"teacher": kept},
            evaluate_every=1,
        )
        return {"teacher": made["teacher"], "student": student}

    return experiment.Experiment("tiny", tiny_experiment.Config(seeds=1), parts, None, None, "")


def run(folder, loaded, **how):
    return runner.run(loaded, loaded.config, out=folder, observer=how.pop("observer", QUIET), **how)


def curve(results):
    return [h["loss"] for h in results["student"][0]["history"]]


def build(folder, loaded, **how):
    """The one cache of a run that only computes it."""
    run(folder, loaded, only_cache=True, **how)
    (found,) = (folder / "cache").iterdir()
    return found


@pytest.fixture(scope="module")
def online(tmp_path_factory):
    return run(tmp_path_factory.mktemp("online") / "run", tiny(), online=True)


@pytest.mark.parametrize(
    ("reader", "dtype", "drift"),
    [
        (data.Memory, "float32", 1e-5),
        (data.Memory, "float16", 1e-3),
        (data.Memory, "bfloat16", 1e-2),
        (data.Pipeline, "float32", 1e-5),
        (data.Pipeline, "bfloat16", 1e-2),
    ],
)
def test_a_cached_teacher_teaches_as_one_that_runs(tmp_path, online, reader, dtype, drift):
    results = run(tmp_path / "run", tiny(Kept(("logits",), dtype), reader=reader))
    gaps = np.abs(np.array(curve(results)) - curve(online))
    assert gaps.max() <= drift, gaps


def test_every_slot_is_read(tmp_path, online):
    """Ten steps of 16 of 48 rows are three epochs and more: every slot was read, and one comes again."""
    without = run(tmp_path / "one_slot", tiny(slots=1))
    assert np.abs(np.array(curve(without)) - curve(online)).max() > 1e-4


@pytest.mark.parametrize(("dtype", "apart"), [("float32", 1e-5), ("float16", 2e-3)])
def test_records_are_what_the_teacher_says_of_each_row_and_slot(tmp_path, dtype, apart):
    loaded = tiny(Kept(("logits", "embedding"), dtype))
    folder = build(tmp_path / "run", loaded)
    parts = loaded.parts(loaded.config)
    part, result = parts["student"], json.loads((tmp_path / "run/parts/teacher/0/result.json").read_text())
    own = runner.finished(tmp_path / "run", parts["teacher"], "teacher", 0, result["variables"])["teacher"]
    logits = np.fromfile(folder / "teacher.logits.bin", dtype).reshape(3, 48, 3)
    for number, batch in zip(range(12), part.data.batches(0), strict=False):
        ctx = Context(jnp.int32(0), jax.random.key(9), train=False)
        seen = CHAIN(batch, ctx._replace(train=True))
        said = part.models["teacher"].apply(own, seen, ctx, {})[0]["logits"]
        kept = logits[np.asarray(batch["slot"]), np.asarray(batch["example_id"])]
        np.testing.assert_allclose(kept, said, atol=apart, err_msg=f"batch {number}")
    assert {p.name for p in folder.iterdir()} == {"manifest.json", "teacher.logits.bin", "teacher.embedding.bin"}
    assert (folder / "teacher.embedding.bin").stat().st_size == 3 * 48 * 8 * np.dtype(dtype).itemsize


def test_the_teacher_is_not_even_read(tmp_path):
    folder = tmp_path / "run"
    build(folder, tiny())
    (folder / "parts/teacher/0/variables.safetensors").unlink()
    with pytest.raises(UserError, match="missing"):
        run(tmp_path / "run", tiny(), online=True, allow_changed_data=True)
    assert not (folder / "parts/student").exists()
    said = []
    with pytest.raises(UserError, match=r"teacher.*missing"):  # only the report, at the end, looks at all parts
        run(folder, tiny(), allow_changed_data=True, observer=runner.Observer(say=said.append))
    assert (folder / "parts/student/0/result.json").exists() and not any("computing" in line for line in said)


def test_its_size_is_said_before(tmp_path):
    said = []
    build(tmp_path / "run", tiny(), observer=runner.Observer(say=said.append))
    assert any("what 'teacher' says of 48 rows, 3 slots: 0.0 MiB in " in line for line in said)


def store(folder, slots=2, rows=300, dtype=np.float32, **about):
    return cache.Store(folder, {"teacher": "t"} | about, {"x": jax.ShapeDtypeStruct((4,), dtype)}, slots, rows)


def batches_of(values, stop=None):
    """Batches of 5 rows of `values`; an outage after `stop` of them."""

    def batches(first, step):
        for number in range(first, len(values) // 5, step):
            if number == stop:
                raise KeyboardInterrupt
            rows = np.arange(5 * number, 5 * number + 5)
            yield rows, {"x": values[rows]}

    return batches


VALUES = np.random.default_rng(0).normal(size=(600, 4)).astype(np.float32)


def test_killed_while_it_is_made_it_goes_on_and_has_the_same_bytes(tmp_path):
    store(tmp_path / "whole").build(batches_of(VALUES), 120)
    with pytest.raises(KeyboardInterrupt):
        store(tmp_path / "cut").build(batches_of(VALUES, stop=100), 120)
    assert not store(tmp_path / "cut").checked()
    with open(tmp_path / "cut/x.bin", "r+b") as torn:  # what was written after the last mark may be torn
        torn.seek(64 * 5 * 16)
        torn.write(b"\xff" * 700)
    made = []
    store(tmp_path / "cut").build(batches_of(VALUES), 120, note=made.append)
    assert made == list(range(65, 121))  # 64 were marked as done
    assert (tmp_path / "cut/x.bin").read_bytes() == (tmp_path / "whole/x.bin").read_bytes() == VALUES.tobytes()
    assert store(tmp_path / "cut").checked() and sorted(os.listdir(tmp_path / "cut")) == ["manifest.json", "x.bin"]


def test_asked_to_stop_it_goes_on_from_there(tmp_path):
    def heed():
        seen.append(1)
        if len(seen) == 70:
            raise train.Interrupted("")

    seen, made = [], []
    with pytest.raises(train.Interrupted):
        store(tmp_path / "c").build(batches_of(VALUES), 120, heed=heed)
    store(tmp_path / "c").build(batches_of(VALUES), 120, note=made.append)
    assert made[0] == 71 and (tmp_path / "c/x.bin").read_bytes() == VALUES.tobytes()


def test_what_does_not_match_is_refused_by_name(tmp_path):
    store(tmp_path / "c").build(batches_of(VALUES), 120)
    for other, said in (
        (store(tmp_path / "c", teacher="u"), "teacher: t there, u now"),
        (store(tmp_path / "c", slots=3), "slots: 2 there, 3 now"),
        (store(tmp_path / "c", rows=301), "rows: 300 there, 301 now"),
        (store(tmp_path / "c", dtype=np.float16), r"records.x: float32\[4\] there, float16\[4\] now"),
        (store(tmp_path / "c", augment={"version": 2}), "augment: None there"),
    ):
        with pytest.raises(UserError, match=said):
            other.checked()
    data = bytearray((tmp_path / "c/x.bin").read_bytes())
    data[77] ^= 1
    (tmp_path / "c/x.bin").write_bytes(data)
    with pytest.raises(UserError, match="is damaged .x.: remove it"):
        store(tmp_path / "c").checked()


def test_another_augmentation_teacher_or_format_in_a_shared_folder(tmp_path):
    shared = tmp_path / "shared"
    run(tmp_path / "a", tiny(), cache=shared, only_cache=True)
    said = []
    run(tmp_path / "b", tiny(), cache=shared, observer=runner.Observer(say=said.append))
    assert not any("computing" in line for line in said)  # the same teacher, made again, has the same hash
    other = augment.Augmented(CHAIN.steps, seed=6)
    for loaded, what in (
        (tiny(chain=other), "augment.seed: 5 there, 6 now"),
        (tiny(slots=4), "slots: 3 there, 4 now"),
        (tiny(Kept(("logits",), "float16")), "kept.dtype: float32 there, float16 now"),
    ):
        with pytest.raises(UserError, match=what):
            run(tmp_path / what[:4], loaded, cache=shared)


def test_a_full_disk_and_what_does_not_fit_are_said(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="x has values that float16 cannot hold"):
        store(tmp_path / "h", dtype=np.float16).build(batches_of(VALUES * 1e6), 120)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(UserError, match="no space is left"):
        store(tmp_path / "f").build(batches_of(VALUES), 120)


def test_a_record_of_the_largest_logits(tmp_path):
    """With all of them it is the whole KL; with fewer the bucket's; losses that need all refuse it."""
    whole = run(tmp_path / "whole", tiny())
    every = run(tmp_path / "every", tiny(Kept(("logits",), top_k=3, temperature=2.0)))
    assert curve(every) == pytest.approx(curve(whole), abs=1e-5)
    two = run(tmp_path / "two", tiny(Kept(("logits",), "float16", top_k=2, temperature=2.0)))
    bucket = run(tmp_path / "bucket", tiny(soft=losses.topk_kl, k=2, tail=True))
    assert curve(two) == pytest.approx(curve(bucket), abs=2e-3)
    folder = next((tmp_path / "two/cache").iterdir())
    sizes = {p.name: p.stat().st_size for p in folder.glob("*.bin")}
    each = 3 * 48
    assert sizes == {
        "teacher.logits.values.bin": each * 2 * 2,
        "teacher.logits.indices.bin": each * 2 * 2,
        "teacher.logits.lse.bin": each * 4,
        "teacher.logits.tail.bin": each * 4,
    }


def test_what_does_not_go_with_a_record_is_refused_before_the_first_step():
    def check(loaded):
        experiment.check(loaded.parts(loaded.config), {})

    record = Kept(("logits",), top_k=2, temperature=2.0)
    check(tiny(record))
    with pytest.raises(UserError, match="term 'soft' has temperature 3, but the cache keeps .* for 2"):
        check(tiny(record, temperature=3.0))
    with pytest.raises(UserError, match=r"part 'student': term 'soft'.*teacher"):
        check(tiny(record, soft=losses.dist))
    with pytest.raises(UserError, match="top_k=2 keeps logits, but outputs are embedding"):
        Kept(("embedding",), top_k=2)
    with pytest.raises(UserError, match="dtype is 'int8'"):
        Kept(("logits",), "int8")
    with pytest.raises(UserError, match="slots=16, or leave cache out"):
        check(tiny(slots=None))
    with pytest.raises(UserError, match="k is 9"):
        check(tiny(Kept(("logits",), top_k=9, temperature=2.0)))
