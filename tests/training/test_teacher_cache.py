"""A teacher's outputs on disk: as exact as running it, of what they say they are, made once."""

import dataclasses
import errno
import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmkd_jax import augment, data, losses
from mmkd_jax.core.model import StepContext
from mmkd_jax.core.objective import combine, term
from mmkd_jax.errors import UserError
from mmkd_jax.experiment import definition, runner, saved
from mmkd_jax.training import loop, teacher_cache
from mmkd_jax.training.teacher_cache import CacheSpec
from tests import tiny_experiment
from tests.small import with_role

QUIET = runner.Callbacks(log=lambda line: None)
CHAIN = augment.Compose((augment.images.RandomFlip(), augment.images.RandomCrop(1)), seed=5)


def tiny(kept=("logits",), chain=CHAIN, num_views=3, reader=data.InMemory, soft=losses.kl, **hyperparams):
    """The tiny experiment; its student reads a cached teacher, a line of the learning curve each step."""

    options: dict[str, Any] = {"temperature": 2} | hyperparams

    def trainings(config):
        made = tiny_experiment.trainings(dataclasses.replace(config, steps=10))
        rows = made["student"].data.dataset
        own = combine(
            task=made["student"].task.objective(),
            soft=term(soft, student="student.logits", teacher="teacher.logits", **options),
        )
        student = dataclasses.replace(
            with_role(made["student"], "teacher", cache=kept),
            objective=own,
            data=reader(rows, 16, num_views=num_views),
            augment=chain,
            evaluate_every=1,
        )
        return {"teacher": made["teacher"], "student": student}

    return definition.Experiment("tiny", tiny_experiment.Config(seeds=1), trainings, None, None, "")


def run(folder, loaded, callbacks=QUIET, **how):
    return runner.run(loaded, options=runner.RunOptions(folder, **how), callbacks=callbacks)


def curve(results):
    return [h["loss"] for h in results["student"][0]["history"]]


def build(folder, loaded, callbacks=QUIET):
    """The one cache of a run that only computes it."""
    runner.build_caches(loaded, options=runner.RunOptions(folder), callbacks=callbacks)
    (found,) = (p for p in (folder / "cache").iterdir() if p.is_dir())
    return found


@pytest.fixture(scope="module")
def online(tmp_path_factory):
    return run(tmp_path_factory.mktemp("online") / "run", tiny(), online=True)


@pytest.mark.full
@pytest.mark.parametrize(
    ("reader", "dtype", "drift"),
    [
        (data.InMemory, "float32", 1e-5),
        pytest.param(data.InMemory, "float16", 1e-3, marks=pytest.mark.slow),
        pytest.param(data.InMemory, "bfloat16", 1e-2, marks=pytest.mark.slow),
        (data.GrainLoader, "float32", 1e-5),
        pytest.param(data.GrainLoader, "bfloat16", 1e-2, marks=pytest.mark.slow),
    ],
)
def test_a_cached_teacher_teaches_as_one_that_runs(tmp_path, online, reader, dtype, drift):
    results = run(tmp_path / "run", tiny(CacheSpec(("logits",), dtype), reader=reader))
    gaps = np.abs(np.array(curve(results)) - curve(online))
    assert gaps.max() <= drift, gaps


@pytest.mark.slow
def test_every_slot_is_read(tmp_path, online):
    """Ten steps of 16 of 48 rows are three epochs and more: every view was read, and one comes again."""
    without = run(tmp_path / "one_slot", tiny(num_views=1))
    assert np.abs(np.array(curve(without)) - curve(online)).max() > 1e-4


@pytest.mark.full
@pytest.mark.parametrize(("dtype", "apart"), [("float32", 1e-5), ("float16", 2e-3)])
def test_records_are_what_the_teacher_says_of_each_row_and_slot(tmp_path, dtype, apart):
    loaded = tiny(CacheSpec(("logits", "embedding"), dtype))
    folder = build(tmp_path / "run", loaded)
    trainings = loaded.trainings(loaded.config)
    training = trainings["student"]
    own = saved.load_variables(tmp_path / "run", trainings["teacher"], "teacher", 0)["teacher"]
    logits = np.fromfile(folder / "teacher.logits.bin", dtype).reshape(3, 48, 3)
    for number, batch in zip(range(12), training.data.batches(0), strict=False):
        ctx = StepContext(jnp.int32(0), jax.random.key(9), train=False)
        seen = CHAIN(batch, ctx._replace(train=True))
        said = training.networks["teacher"].apply(own, seen, ctx, {})[0]["logits"]
        kept = logits[np.asarray(batch["view_index"]), np.asarray(batch["example_id"])]
        np.testing.assert_allclose(kept, said, atol=apart, err_msg=f"batch {number}")
    assert {p.name for p in folder.iterdir()} == {"manifest.json", "teacher.logits.bin", "teacher.embedding.bin"}
    assert (folder / "teacher.embedding.bin").stat().st_size == 3 * 48 * 8 * np.dtype(dtype).itemsize


def test_the_teacher_is_not_even_read(tmp_path, monkeypatch):
    folder = tmp_path / "run"
    build(folder, tiny())

    def unreadable(path, like, sha256):
        raise UserError(f"{path} was read")

    monkeypatch.setattr(runner.variables_file, "read_variables", unreadable)
    said = []
    # only the final report loads the variables of all trainings
    run(folder, tiny(), callbacks=runner.Callbacks(log=said.append))
    assert any("examples.png" in line and "was read" in line for line in said)
    assert (folder / "trainings/student/0/result.json").exists() and not any("computing" in line for line in said)


def test_its_size_is_said_before(tmp_path):
    said = []
    build(tmp_path / "run", tiny(), callbacks=runner.Callbacks(log=said.append))
    assert any("outputs of 'teacher' on 48 rows, 3 views: 0.0 MiB in " in line for line in said)


def store(folder, num_views=2, rows=300, dtype=np.float32, **about):
    return teacher_cache.Store(
        folder, {"teacher": "t"} | about, {"x": jax.ShapeDtypeStruct((4,), dtype)}, num_views, rows
    )


def batches_of(values, should_stop=None):
    """Batches of 5 rows of `values`; an outage after `stop` of them."""

    def batches(first, step):
        for number in range(first, len(values) // 5, step):
            if number == should_stop:
                raise KeyboardInterrupt
            rows = np.arange(5 * number, 5 * number + 5)
            yield rows, {"x": values[rows]}

    return batches


VALUES = np.random.default_rng(0).normal(size=(600, 4)).astype(np.float32)


def test_killed_while_it_is_made_it_goes_on_and_has_the_same_bytes(tmp_path):
    store(tmp_path / "whole").build(batches_of(VALUES), 120)
    with pytest.raises(KeyboardInterrupt):
        store(tmp_path / "cut").build(batches_of(VALUES, should_stop=100), 120)
    assert not store(tmp_path / "cut").is_complete()
    with open(tmp_path / "cut/x.bin", "r+b") as torn:  # what was written after the last mark may be torn
        torn.seek(64 * 5 * 16)
        torn.write(b"\xff" * 700)
    made = []
    store(tmp_path / "cut").build(batches_of(VALUES), 120, on_metrics=made.append)
    assert made == list(range(65, 121))  # 64 were marked as done
    assert (tmp_path / "cut/x.bin").read_bytes() == (tmp_path / "whole/x.bin").read_bytes() == VALUES.tobytes()
    assert store(tmp_path / "cut").is_complete() and sorted(os.listdir(tmp_path / "cut")) == ["manifest.json", "x.bin"]


def test_asked_to_stop_it_goes_on_from_there(tmp_path):
    def check_interrupt():
        seen.append(1)
        if len(seen) == 70:
            raise loop.Interrupted("")

    seen, made = [], []
    with pytest.raises(loop.Interrupted):
        store(tmp_path / "c").build(batches_of(VALUES), 120, check_interrupt=check_interrupt)
    store(tmp_path / "c").build(batches_of(VALUES), 120, on_metrics=made.append)
    assert made[0] == 71 and (tmp_path / "c/x.bin").read_bytes() == VALUES.tobytes()


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"teacher": "u"}, "teacher: t there, u now"),
        ({"num_views": 3}, "views: 2 there, 3 now"),
        ({"rows": 301}, "rows: 300 there, 301 now"),
        ({"dtype": np.float16}, "records.x: float32[4] there, float16[4] now"),
        ({"augment": {"version": 2}}, "augment: None there"),
    ],
)
def test_what_does_not_match_is_set_aside_by_name(tmp_path, other, said):
    store(tmp_path / "c").build(batches_of(VALUES), 120)
    lines = []
    assert not store(tmp_path / "c", **other).is_complete(lines.append)
    assert said in lines[0] and store(tmp_path / "c.damaged").is_complete(lines.append)


def test_a_flipped_bit_is_found_and_the_records_are_made_again(tmp_path):
    store(tmp_path / "c").build(batches_of(VALUES), 120)
    data = bytearray((tmp_path / "c/x.bin").read_bytes())
    data[77] ^= 1
    (tmp_path / "c/x.bin").write_bytes(data)
    lines = []
    assert not store(tmp_path / "c").is_complete(lines.append)
    assert "c is damaged (x.bin) and kept as c.damaged: computing it again" in lines[0]


@pytest.mark.slow
def test_another_augmentation_teacher_or_format_in_a_shared_folder(tmp_path):
    shared = tmp_path / "shared"
    runner.build_caches(tiny(), options=runner.RunOptions(tmp_path / "a", cache=shared), callbacks=QUIET)
    said = []
    run(tmp_path / "b", tiny(), cache=shared, callbacks=runner.Callbacks(log=said.append))
    assert not any("computing" in line for line in said)  # the same teacher, made again, has the same hash
    other = augment.Compose(CHAIN.steps, seed=6)
    for i, loaded in enumerate((tiny(chain=other), tiny(num_views=4), tiny(CacheSpec(("logits",), "float16")))):
        runner.build_caches(loaded, options=runner.RunOptions(tmp_path / str(i), cache=shared), callbacks=QUIET)
        assert len([p for p in shared.iterdir() if p.is_dir()]) == i + 2  # separate records


def test_a_full_disk_and_what_does_not_fit_are_said(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="x has values that float16 cannot hold"):
        store(tmp_path / "h", dtype=np.float16).build(batches_of(VALUES * 1e6), 120)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(UserError, match="no space is left"):
        store(tmp_path / "f").build(batches_of(VALUES), 120)


@pytest.mark.slow
def test_a_record_of_the_largest_logits(tmp_path):
    """With all of them it is the whole KL; with fewer the bucket's; losses that need all refuse it."""
    whole = run(tmp_path / "whole", tiny())
    every = run(tmp_path / "every", tiny(CacheSpec(("logits",), top_k=3, temperature=2.0)))
    assert curve(every) == pytest.approx(curve(whole), abs=1e-5)
    two = run(tmp_path / "two", tiny(CacheSpec(("logits",), "float16", top_k=2, temperature=2.0)))
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


@pytest.mark.full
def test_what_does_not_go_with_a_record_is_refused_before_the_first_step():
    def check(loaded):
        definition.check(loaded.trainings(loaded.config), {})

    record = CacheSpec(("logits",), top_k=2, temperature=2.0)
    check(tiny(record))
    with pytest.raises(UserError, match="term 'soft' has temperature 3, but the cache stores .* for 2"):
        check(tiny(record, temperature=3.0))
    with pytest.raises(UserError, match=r"training 'student': term 'soft'.*teacher"):
        check(tiny(record, soft=losses.dist))
    with pytest.raises(UserError, match="top_k=2 keeps logits, but outputs are embedding"):
        CacheSpec(("embedding",), top_k=2)
    with pytest.raises(UserError, match="dtype is 'int8'"):
        CacheSpec(("logits",), "int8")
    with pytest.raises(UserError, match="num_views=16, or remove cache"):
        check(tiny(num_views=None))
    with pytest.raises(UserError, match="k is 9"):
        check(tiny(CacheSpec(("logits",), top_k=9, temperature=2.0)))
